//! Namespaces in which all processes and mounts of a test live, so that they end with it however it ends.
//!
//! The first process of a new PID namespace does nothing but reap; when it is killed, the kernel kills every other
//! process of the namespace, shims and containers included, and the mounts of its mount namespace go with it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A PID and a mount namespace.
#[derive(Debug)]
pub struct Sandbox {
    /// `unshare`, which waits for the first process and kills it when it is killed itself.
    outer: Child,
    /// The first process, as this namespace sees it.
    inner: i32,
}

impl Sandbox {
    /// Makes the namespaces.
    pub fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the lab needs root: run the tests as root");
        // An ignored SIGCHLD is inherited by `sleep`: the kernel reaps the orphans of the namespace then.
        let outer = Command::new("unshare")
            .args(["--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL", "--propagation=private", "--"])
            .args(["sh", "-c", "trap '' CHLD; echo ready; exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("unshare: is util-linux installed?")?;
        let mut sandbox = Self { outer, inner: 0 };
        let mut line = String::new();
        let output = sandbox.outer.stdout.as_mut().context("unshare has no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        ensure!(line == "ready\n", "the sandbox did not start");
        let children = format!("/proc/{0}/task/{0}/children", sandbox.outer.id());
        let children = std::fs::read_to_string(&children).with_context(|| children)?;
        sandbox.inner = children.trim().parse().context("the sandbox has no first process")?;
        Ok(sandbox)
    }

    /// A command that will run in the namespaces.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([format!("--target={}", self.inner).as_str(), "--pid", "--mount", "--", program]);
        command
    }

    /// The first process, as this namespace sees it: its `/proc/PID/root` and `/proc/PID/mountinfo` are the node's.
    pub fn pid(&self) -> i32 {
        self.inner
    }

    /// The processes of the namespace whose program is `name`, as this namespace sees them.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let Ok(namespace) = std::fs::read_link(format!("/proc/{}/ns/pid", self.inner)) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|other| other == namespace))
            .filter(|pid| {
                let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let program = arguments.split(|&byte| byte == 0).next().unwrap_or_default();
                program.rsplit(|&byte| byte == b'/').next() == Some(name.as_bytes())
            })
            .collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.inner) {
            let _ = kill_process(pid, Signal::KILL); // the kernel then kills the rest of the namespace
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}
