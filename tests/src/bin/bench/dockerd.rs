//! One Docker daemon of the peer: unpacked, not installed, in namespaces of its own, and its API.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretd_tests::node::remove_cgroups;
use secretd_tests::rootfs;
use secretd_tests::sandbox::Sandbox;
use tempfile::TempDir;

use crate::statistics::proportional_set_size;

/// How long the daemon may take to serve its socket, or anything else that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A daemon with directories and a control group of its own.
pub(crate) struct Dockerd {
    daemon: Option<Child>,
    sandbox: Sandbox,
    directory: TempDir,
    root: PathBuf,
    cgroup: String,
}

impl Dockerd {
    /// Starts the daemon that is unpacked below `root` in a sandbox whose network has been set up.
    pub(crate) fn start(root: &Path, sandbox: Sandbox) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let name = directory.path().file_name().and_then(|name| name.to_str()).context("temporary directory")?;
        let cgroup = format!("/peer-{name}");
        let mut this = Self { daemon: None, sandbox, root: root.canonicalize()?, cgroup, directory };
        this.start_again()?;
        this.until_it_answers()?;
        Ok(this)
    }

    /// Starts the daemon of a node whose daemon was killed; it does not answer yet.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log"))?;
        let daemon = with_path(self.sandbox.command("dockerd"), &self.root)
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false", "--storage-driver=overlay2"])
            .arg(format!("--cgroup-parent={}", self.cgroup))
            .arg(format!("--data-root={}", at("data")))
            .arg(format!("--exec-root={}", at("exec")))
            .arg(format!("--pidfile={}", at("pid")))
            .arg(format!("--host=unix://{}", at("sock")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("dockerd")?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills the daemon and its containerd as `kill -9` does; containers go on.
    pub(crate) fn kill(&mut self) -> Result<()> {
        for program in ["dockerd", "containerd"] {
            for pid in self.sandbox.processes(program) {
                let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
                rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            }
        }
        self.daemon.take().context("dockerd is not running")?.wait()?;
        for stale in ["pid", "sock", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.path(stale)); // its pid may be another process's by now
        }
        Ok(())
    }

    fn until_it_answers(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.docker(&["version"]).is_err() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            ensure!(Instant::now() < end, "dockerd does not answer: {}", log());
        }
        Ok(())
    }

    /// Gives it the image `x:1`.
    pub(crate) fn import_busybox(&self) -> Result<()> {
        let tar = self.path("rootfs.tar");
        rootfs::write(&tar, &rootfs::busybox(&[])?)?;
        self.docker(&["import", &tar.to_string_lossy(), "x:1"]).map(drop)
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Docker's own command. It reaches the socket from outside of the namespaces too.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = with_path(Command::new("docker"), &self.root);
        command.arg("--host").arg(format!("unix://{}", self.path("sock").display())).args(arguments);
        command
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("docker")?;
        ensure!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Kilobytes of its processes with this name.
    pub(crate) fn weight(&self, program: &str) -> Result<u64> {
        self.sandbox.processes(program).into_iter().map(proportional_set_size).sum()
    }

    /// A connection to its API.
    pub(crate) fn api(&self) -> Result<Api> {
        Api::connect(&self.path("sock"))
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.sandbox.end();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.wait();
        }
        remove_cgroups(&self.cgroup);
    }
}

/// A command that finds Docker's programs, which find one another.
fn with_path(mut command: Command, root: &Path) -> Command {
    let rest = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{0}/usr/bin:{0}/usr/sbin:{rest}", root.display()));
    command
}

/// One connection to Docker's API that is kept, as `client::Client` is one to ours.
pub(crate) struct Api {
    stream: BufReader<UnixStream>,
}

impl Api {
    fn connect(socket: &Path) -> Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Creates a secret of `length` zero bytes, a number that leaves two over a multiple of three: its id.
    pub(crate) fn create_secret(&mut self, name: &str, length: usize) -> Result<String> {
        ensure!(length % 3 == 2, "the encoding below ends otherwise");
        let data = "A".repeat(length.div_ceil(3) * 4 - 1) + "="; // base64 (RFC 4648) of zeros
        let body = format!(r#"{{"Name":"{name}","Data":"{data}"}}"#);
        let answer = self.call("POST", "/v1.41/secrets/create", &body)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        Ok(answer.get("ID").and_then(|id| id.as_str()).context("no id")?.to_owned())
    }

    /// Reads a secret's metadata.
    pub(crate) fn inspect_secret(&mut self, id: &str) -> Result<()> {
        self.call("GET", &format!("/v1.41/secrets/{id}"), "").map(drop)
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(self.stream.read_line(&mut head)? > 0, "dockerd has closed the connection");
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut answer = vec![0; length.context("an answer without a length")?];
        self.stream.read_exact(&mut answer)?;
        ensure!(head.starts_with("HTTP/1.1 20"), "{head}{}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }
}

/// Opens the named pipe for reading, which waits until somebody writes, and reads the first byte.
pub(crate) fn first_byte(pipe: &Path) -> Result<()> {
    Ok(File::open(pipe)?.read_exact(&mut [0])?)
}
