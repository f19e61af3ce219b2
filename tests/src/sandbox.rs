//! Namespaces in which all processes and mounts of a test live, so that they end with it however it ends.
//!
//! The first process of a new PID namespace does nothing but reap; when it is killed, the kernel kills every other
//! process of the namespace, shims and containers included, and the mounts of its mount namespace go with it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A PID and a mount namespace, and a network namespace where one was asked for.
#[derive(Debug)]
pub struct Sandbox {
    /// `unshare`, which waits for the first process and kills it when it is killed itself.
    outer: Child,
    /// The first process, as this namespace sees it.
    inner: i32,
    network: bool,
}

impl Sandbox {
    /// Makes the namespaces, with this process's network.
    pub fn new() -> Result<Self> {
        Self::unshare(false)
    }

    /// Makes the namespaces, with a network and a host name of their own: the only interface is a loopback that is down.
    pub fn with_network() -> Result<Self> {
        Self::unshare(true)
    }

    fn unshare(network: bool) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the lab needs root: run the tests as root");
        // An ignored SIGCHLD is inherited by `sleep`: the kernel reaps the orphans of the namespace then.
        let outer = Command::new("unshare")
            .args(["--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL", "--propagation=private"])
            .args(if network { &["--net", "--uts"][..] } else { &[] })
            .args(["--", "sh", "-c", "trap '' CHLD; echo ready; exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // what goes wrong shows as a sandbox that is not ready
            .process_group(0)
            .spawn()
            .context("unshare: is util-linux installed?")?;
        let mut sandbox = Self { outer, inner: 0, network };
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
        command.args([format!("--target={}", self.inner).as_str(), "--pid", "--mount"]);
        command.args(if self.network { &["--net", "--uts"][..] } else { &[] }).args(["--", program]);
        command
    }

    /// The first process, as this namespace sees it: its `/proc/PID/root` and `/proc/PID/mountinfo` are the node's.
    pub fn pid(&self) -> i32 {
        self.inner
    }

    /// The processes of the sandbox, those of its containers included, whose program is `name`, as this namespace sees
    /// them.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|&pid| program(pid).is_some_and(|program| program == name) && self.has(pid)).collect()
    }

    /// Whether a process, or one of its ancestors, is in the sandbox's namespace. A container's are in one of their own.
    fn has(&self, mut pid: i32) -> bool {
        for _ in 0..64 {
            if self.entered(pid) {
                return true;
            }
            match parent(pid) {
                Some(parent) if parent > 1 => pid = parent,
                _ => return false,
            }
        }
        false
    }

    /// Whether a process is in the sandbox's own namespace.
    fn entered(&self, pid: i32) -> bool {
        let namespace = |pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        namespace(pid).is_some_and(|it| Some(it) == namespace(self.inner))
    }
}

fn program(pid: i32) -> Option<String> {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let path = arguments.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(path.rsplit(|&byte| byte == b'/').next()?).into_owned())
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

impl Sandbox {
    /// Kills everything in the namespaces, and waits until it is gone.
    pub fn end(&mut self) {
        if let Some(pid) = Pid::from_raw(self.inner) {
            let _ = kill_process(pid, Signal::KILL); // the kernel then kills the rest of the namespace
        }
        let _ = self.outer.wait(); // it ends when its child, and with it the namespace, has ended
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
    }
}
