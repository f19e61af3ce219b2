//! Docker Swarm, measured in the same run: Debian's packages, unpacked, in namespaces of their own.

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

use crate::containers::{SERVER, proportional_set_size};
use crate::statistics::percentile;

/// How long the daemon may take to serve its socket, or anything else that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const ADDRESS: &str = "10.99.0.1";

/// What Swarm does on this machine.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Create a secret of 512 B, p50.
    pub(crate) create_small: Duration,
    /// Secrets of 500 KB created in a second.
    pub(crate) create_large: f64,
    /// `docker service create` to the first instruction, p50.
    pub(crate) first_instruction: Duration,
    /// Replicas started, and stopped, in a second.
    pub(crate) up: f64,
    pub(crate) down: f64,
    /// Kilobytes: dockerd and containerd, idle; a container's shim.
    pub(crate) daemons: u64,
    pub(crate) shim: u64,
    /// Where the figures are from.
    pub(crate) name: &'static str,
}

impl Figures {
    /// What was measured once, for a machine that cannot have Docker's packages.
    pub(crate) fn written_down() -> Self {
        Self {
            create_small: Duration::from_micros(800),
            create_large: 73.0,
            first_instruction: Duration::from_millis(307),
            up: 12.0,
            down: 12.0,
            daemons: 138 * 1024,
            shim: 13_824,
            name: "Swarm (measured elsewhere)",
        }
    }

    /// Measures the Docker that is unpacked below `root`.
    pub(crate) fn measure(root: &Path) -> Result<Self> {
        let swarm = Swarm::start(root)?;
        let daemons = swarm.weight("dockerd")? + swarm.weight("containerd")?;
        let mut api = Api::connect(&swarm.socket())?;
        let mut small = Vec::new();
        for number in 0..300 {
            let start = Instant::now();
            api.create_secret(&format!("small-{number}"), 512)?;
            small.push(start.elapsed());
        }
        let large = 100;
        let start = Instant::now();
        for number in 0..large {
            api.create_secret(&format!("large-{number}"), 500_000)?;
        }
        let create_large = f64::from(large) / start.elapsed().as_secs_f64();
        let first_instruction = percentile(&swarm.first_instructions()?, 0.5);
        let (up, shim, down) = swarm.replicas()?;
        let create_small = percentile(&small, 0.5);
        Ok(Self { create_small, create_large, first_instruction, up, down, daemons, shim, name: "Swarm" })
    }
}

struct Swarm {
    daemon: Child,
    sandbox: Sandbox,
    directory: TempDir,
    root: PathBuf,
    cgroup: String,
}

impl Swarm {
    /// A swarm of one node with the image `x:1`.
    fn start(root: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let name = directory.path().file_name().and_then(|name| name.to_str()).context("temporary directory")?;
        let cgroup = format!("/peer-{name}");
        let root = root.canonicalize()?;
        let sandbox = Sandbox::with_network()?;
        let at = |name: &str| directory.path().join(name);
        let prepared = sandbox
            .command("sh")
            .args(["-c", &format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo")])
            .status()?;
        ensure!(prepared.success(), "the peer's loopback cannot be set up");
        let daemon = with_path(sandbox.command("dockerd"), &root)
            .args(["--bridge=none", "--iptables=false", "--ip-masq=false", "--storage-driver=overlay2"])
            .arg(format!("--cgroup-parent={cgroup}"))
            .arg(format!("--data-root={}", at("data").display()))
            .arg(format!("--exec-root={}", at("exec").display()))
            .arg(format!("--pidfile={}", at("pid").display()))
            .arg(format!("--host=unix://{}", at("sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("log"))?)
            .spawn()
            .context("dockerd")?;
        let swarm = Self { daemon, sandbox, directory, root, cgroup };
        let end = Instant::now() + PATIENCE;
        while swarm.docker(&["version"]).is_err() {
            ensure!(Instant::now() < end, "dockerd does not answer: {}", std::fs::read_to_string(swarm.path("log"))?);
        }
        swarm.docker(&["swarm", "init", "--advertise-addr", ADDRESS])?;
        let tar = swarm.path("rootfs.tar");
        rootfs::write(&tar, &rootfs::busybox(&[])?)?;
        swarm.docker(&["import", &tar.to_string_lossy(), "x:1"])?;
        Ok(swarm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    /// Docker's own command. It reaches the socket from outside of the namespaces too.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = with_path(Command::new("docker"), &self.root);
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command
    }

    fn docker(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("docker")?;
        ensure!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// As in `containers::first_instruction`.
    fn first_instructions(&self) -> Result<Vec<Duration>> {
        let pipe = self.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        let mount = format!("type=bind,source={},target=/pipe", pipe.display());
        let flags =
            ["service", "create", "--detach", "--network", "host", "--restart-condition", "none", "--mount", &mount];
        let mut samples = Vec::new();
        for number in 0..15 {
            let name = format!("first-{number}");
            let start = Instant::now();
            let mut create = self
                .command(&[&flags[..], &["--name", &name, "x:1", "sh", "-c", "echo > /pipe"]].concat())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            File::open(&pipe)?.read_exact(&mut [0])?; // opening waits for the writer
            samples.push(start.elapsed());
            ensure!(create.wait()?.success(), "docker service create failed");
            self.docker(&["service", "rm", &name])?;
        }
        Ok(samples)
    }

    /// A hundred replicas: started in a second, kilobytes of a shim, stopped in a second.
    fn replicas(&self) -> Result<(f64, u64, f64)> {
        self.until("no shims", |shims, _| shims == 0)?;
        let start = Instant::now();
        let flags = ["service", "create", "--detach", "--network", "host", "--name", "many", "--replicas", "100"];
        self.docker(&[&flags[..], &["x:1", "sh", "-c", SERVER]].concat())?;
        self.until("100 replicas", |shims, swarm| {
            shims >= 100
                && swarm
                    .docker(&["service", "ls", "--format", "{{.Replicas}}"])
                    .is_ok_and(|replicas| replicas.lines().any(|line| line == "100/100"))
        })?;
        let up = 100.0 / start.elapsed().as_secs_f64();
        let shims = self.sandbox.processes("containerd-shim-runc-v2");
        let weights = shims.iter().map(|&shim| proportional_set_size(shim)).collect::<Result<Vec<_>>>()?;
        let shim = weights.iter().sum::<u64>() / (weights.len() as u64).max(1);
        let start = Instant::now();
        self.docker(&["service", "rm", "many"])?;
        self.until("no shims", |shims, _| shims == 0)?;
        Ok((up, shim, 100.0 / start.elapsed().as_secs_f64()))
    }

    fn until(&self, what: &str, is_so: impl Fn(usize, &Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_so(self.sandbox.processes("containerd-shim-runc-v2").len(), self) {
            ensure!(Instant::now() < end, "not in time: {what}");
        }
        Ok(())
    }

    fn weight(&self, program: &str) -> Result<u64> {
        self.sandbox.processes(program).into_iter().map(proportional_set_size).sum()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.sandbox.end();
        let _ = self.daemon.wait();
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
struct Api {
    stream: BufReader<UnixStream>,
}

impl Api {
    fn connect(socket: &Path) -> Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Creates a secret of `length` zero bytes, a number that leaves two over a multiple of three.
    fn create_secret(&mut self, name: &str, length: usize) -> Result<()> {
        ensure!(length % 3 == 2, "the encoding below ends otherwise");
        let data = "A".repeat(length.div_ceil(3) * 4 - 1) + "="; // base64 (RFC 4648) of zeros
        let body = format!(r#"{{"Name":"{name}","Data":"{data}"}}"#);
        let request = format!(
            "POST /v1.41/secrets/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
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
        ensure!(head.starts_with("HTTP/1.1 201"), "{head}{}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}
