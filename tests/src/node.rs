//! One real secretd with directories and a control group of its own, in a [`Sandbox`].

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::command::{Answer, run};
use crate::rootfs;
use crate::sandbox::Sandbox;

/// How long a node may take to serve its control socket. Far more than it needs: a test that gets here has failed.
const READY: Duration = Duration::from_secs(60);

/// A running node.
#[derive(Debug)]
pub struct Node {
    daemon: Option<Child>,
    sandbox: Sandbox,
    directory: TempDir,
    address: String,
    cgroup: String,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A secretd that has been started.
#[derive(Debug)]
pub struct Starting(UnixDatagram);

impl Starting {
    /// Waits until it says that it serves.
    pub fn wait(self, node: &Node) -> Result<()> {
        let mut message = [0; 64];
        match self.0.recv(&mut message) {
            Ok(length) if message.get(..length).is_some_and(|text| text.starts_with(b"READY=1")) => Ok(()),
            other => bail!("secretd did not start: {other:?}\n{}", node.log()),
        }
    }
}

impl Node {
    /// A node that is no part of a cluster yet.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with further flags of secretd.
    pub fn start_with(flags: &[&str]) -> Result<Self> {
        let mut node = Self::stopped_with(flags)?;
        node.start_daemon()?;
        Ok(node)
    }

    /// A node whose secretd has not been started: its sandbox can be prepared first.
    pub fn stopped() -> Result<Self> {
        Self::stopped_with(&[])
    }

    /// The same, with flags of secretd.
    pub fn stopped_with(flags: &[&str]) -> Result<Self> {
        Self::made(Sandbox::new()?, own_address(), flags)
    }

    /// A node in a sandbox that has been prepared, with the address that it has there; its secretd has not been started.
    pub fn made(sandbox: Sandbox, address: String, flags: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let name = directory.path().file_name().and_then(|name| name.to_str()).context("temporary directory")?;
        Ok(Self {
            daemon: None,
            sandbox,
            address,
            cgroup: format!("/secretd-{name}"),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            environment: Vec::new(),
            directory,
        })
    }

    /// A cluster of one node with the image `busybox:1`.
    pub fn cluster() -> Result<Self> {
        Self::cluster_with(&[])
    }

    /// The same, with further flags of secretd.
    pub fn cluster_with(flags: &[&str]) -> Result<Self> {
        let node = Self::start_with(flags)?;
        node.init()?;
        Ok(node)
    }

    /// Founds a cluster on it.
    pub fn found(&self) -> Result<()> {
        self.ok(&["cluster", "init", "--listen-addr", self.address()]).map(drop)
    }

    /// Where it listens: on a loopback address (127.0.0.0/8) that no other test of this machine has, because tests run at
    /// the same time; on its only address where it has a network of its own.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes it a cluster of one node with the image `busybox:1`.
    pub fn init(&self) -> Result<()> {
        self.found()?;
        let tar = self.path("busybox.tar");
        rootfs::write(&tar, &rootfs::busybox(&[])?)?;
        self.ok(&["image", "import", "--tag", "busybox:1", &tar.to_string_lossy()]).map(drop)
    }

    /// The command that starts this node's secretd.
    pub fn daemon_command(&self) -> Command {
        let mut command = self.sandbox.command(&binary("secretd").to_string_lossy());
        command.arg("--data-dir").arg(self.data_dir()).arg("--run-dir").arg(self.run_dir());
        command.args(["--cgroup-parent", &self.cgroup]).args(&self.flags);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Gives secretd a variable of its environment, from its next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts secretd and waits until it says that it serves.
    pub fn start_daemon(&mut self) -> Result<()> {
        self.spawn_daemon()?.wait(self)
    }

    /// Starts secretd, which may not serve yet when this returns.
    pub fn spawn_daemon(&mut self) -> Result<Starting> {
        let notify = self.path("notify.sock");
        let _ = std::fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify)?;
        ready.set_read_timeout(Some(READY))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("secretd.log"))?;
        let child = self
            .daemon_command()
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.daemon = Some(child);
        Ok(Starting(ready))
    }

    /// Kills secretd as `kill -9` does, and waits until it is gone.
    pub fn kill_daemon(&mut self) -> Result<()> {
        for pid in self.processes("secretd") {
            if std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !contains(&line, b"\0shim\0")) {
                kill(pid)?;
            }
        }
        ended(&mut self.daemon.take().context("secretd is not running")?)?;
        Ok(())
    }

    /// Asks secretd to end (SIGTERM), and waits until it has.
    pub fn stop_daemon(&mut self) -> Result<()> {
        let pid = self.daemon_pid()?;
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).context("pid")?,
            rustix::process::Signal::TERM,
        )?;
        let status = ended(&mut self.daemon.take().context("secretd is not running")?)?;
        ensure!(status.success(), "secretd ended with {status}\n{}", self.log());
        Ok(())
    }

    /// The daemon's process, as this machine's first namespace sees it.
    pub fn daemon_pid(&self) -> Result<i32> {
        let daemon =
            |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !contains(&line, b"\0shim\0"));
        self.processes("secretd").into_iter().find(daemon).context("secretd is not running")
    }

    /// Holds the daemon (SIGSTOP), as a machine that stalls does.
    pub fn pause_daemon(&self) -> Result<()> {
        self.signal_daemon(rustix::process::Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume_daemon(&self) -> Result<()> {
        self.signal_daemon(rustix::process::Signal::CONT)
    }

    fn signal_daemon(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.daemon_pid()?).context("pid")?;
        rustix::process::kill_process(pid, signal).context("the daemon")
    }

    /// Where its control socket is.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Processes of the node whose program has this name.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        self.sandbox.processes(name)
    }

    /// The node's control groups: its own in each hierarchy where it is, and one of each container below.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        let own: Vec<PathBuf> = hierarchies().map(|root| root.join(self.cgroup.trim_start_matches('/'))).collect();
        let own = own.into_iter().filter(|group| group.is_dir());
        own.flat_map(|group| {
            let entries: Vec<_> = std::fs::read_dir(&group).into_iter().flatten().flatten().collect();
            let below = entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir());
            std::iter::once(group).chain(below.collect::<Vec<_>>())
        })
        .collect()
    }

    /// The shims of the node's containers.
    pub fn shims(&self) -> Vec<i32> {
        let shim =
            |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, b"\0shim\0"));
        self.processes("secretd").into_iter().filter(shim).collect()
    }

    /// Where the node's processes and mounts live.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Adds the image `probe:1`: busybox, and the program that tests run in containers.
    pub fn import_probe(&self) -> Result<()> {
        let files = rootfs::with_libraries(&binary("probe"), "bin/probe")?;
        let files: Vec<(&str, u32, &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_str(), 0o755, bytes.as_slice())).collect();
        let tar = self.path("probe.tar");
        rootfs::write(&tar, &rootfs::busybox(&files)?)?;
        self.ok(&["image", "import", "--tag", "probe:1", &tar.to_string_lossy()]).map(drop)
    }

    /// Runs a shell script where the node's processes live, with `D` and `R` as its directories: what it printed.
    pub fn in_sandbox(&self, script: &str) -> Result<Answer> {
        let mut command = self.sandbox.command("sh");
        command.args(["-c", script]).env("D", self.data_dir()).env("R", self.run_dir()).env("T", self.directory.path());
        run(&mut command, b"")
    }

    /// Starts secretd, which must fail with one line: that line.
    pub fn refused_start(&self) -> Result<String> {
        let answer = run(&mut self.daemon_command(), b"")?;
        ensure!(answer.code() == 1, "{answer:?}");
        let line = answer.stderr.trim_end_matches('\n');
        ensure!(!line.is_empty() && !line.contains('\n'), "not one line: {line:?}");
        Ok(line.to_owned())
    }

    /// A path in the test's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.path("d")
    }

    /// The run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.path("r")
    }

    /// What secretd has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("secretd.log")).unwrap_or_default()
    }

    /// The `sctl` command of this node.
    pub fn sctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("sctl"));
        command.env("SCTL_HOST", format!("unix://{}/control.sock", self.run_dir().display())).args(arguments);
        command
    }

    /// Runs `sctl` with `stdin` to its end.
    pub fn sctl(&self, arguments: &[&str], stdin: &[u8]) -> Result<Answer> {
        run(&mut self.sctl_command(arguments), stdin)
    }

    /// Runs `sctl`, which must succeed: its standard output without the last newline.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.ok_with(arguments, b"")
    }

    /// Creates a service and waits until its tasks run, not until they have stayed up for a while: its id.
    pub fn create_service(&self, arguments: &[&str]) -> Result<String> {
        self.ok(&[&["service", "create", "--update-monitor", "0s"], arguments].concat())
    }

    /// The same as [`Self::ok`], with `stdin`.
    pub fn ok_with(&self, arguments: &[&str], stdin: &[u8]) -> Result<String> {
        let answer = self.sctl(arguments, stdin)?;
        ensure!(answer.status.success(), "sctl {arguments:?}: {answer:?}\n--- secretd\n{}", tail(&self.log()));
        Ok(answer.stdout.trim_end_matches('\n').to_owned())
    }

    /// Runs `sctl`, which must fail with this exit code and one line: that line.
    pub fn refused(&self, code: i32, arguments: &[&str], stdin: &[u8]) -> Result<String> {
        let answer = self.sctl(arguments, stdin)?;
        ensure!(answer.code() == code, "sctl {arguments:?}: exit code {} instead of {code}: {answer:?}", answer.code());
        let line = answer.stderr.trim_end_matches('\n');
        ensure!(!line.is_empty() && !line.contains('\n'), "sctl {arguments:?}: not one line: {line:?}");
        Ok(line.to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("--- secretd of the failed test\n{}", tail(&self.log()));
            }
        }
        // A sandbox ends when all processes in it are gone, and each is when its parent has seen it.
        let _ = self.daemon.as_ref().map(go_on);
        self.sandbox.end();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = ended(&mut daemon);
        }
        remove_cgroups(&self.cgroup);
    }
}

/// Waits for the daemon, which runs as the child of nsenter(1). That stops when its child is held, and does not go on with
/// it.
fn ended(nsenter: &mut Child) -> Result<ExitStatus> {
    go_on(nsenter)?;
    Ok(nsenter.wait()?)
}

fn go_on(nsenter: &Child) -> Result<()> {
    let pid = i32::try_from(nsenter.id()).ok().and_then(rustix::process::Pid::from_raw).context("pid")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::CONT)?)
}

/// One of 2^24 addresses: the process and a counter choose it.
fn own_address() -> String {
    static NODES: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(64) + NODES.fetch_add(1, Ordering::Relaxed);
    let [_, a, b, c] = (number & 0x00ff_ffff).to_be_bytes();
    format!("127.{a}.{b}.{c}:7377")
}

/// A binary of this workspace, beside the running test: `cargo build --workspace --bins` has made it.
pub fn binary(name: &str) -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    let directory = executable.ancestors().find(|directory| directory.join(name).is_file());
    directory.map_or_else(|| name.into(), |directory| directory.join(name))
}

fn kill(pid: i32) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
}

/// The places where control groups may be mounted.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let entries = std::fs::read_dir(&root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).chain([root])
}

/// Removes the control groups that a killed node has left: their processes are dead, and rmdir(2) waits for nothing.
pub fn remove_cgroups(name: &str) {
    for root in hierarchies() {
        remove_tree(&root.join(name.trim_start_matches('/')));
    }
}

fn remove_tree(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(directory);
}
