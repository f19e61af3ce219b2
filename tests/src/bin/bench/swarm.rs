//! Docker Swarm on one node, measured in the same run: Debian's packages, unpacked, in namespaces of their own.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use secretd_tests::sandbox::Sandbox;

use crate::containers::SERVER;
use crate::dockerd::{Dockerd, PATIENCE, first_byte};
use crate::statistics::{percentile, proportional_set_size};

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
        let daemons = swarm.0.weight("dockerd")? + swarm.0.weight("containerd")?;
        let mut api = swarm.0.api()?;
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

struct Swarm(Dockerd);

impl Swarm {
    /// A swarm of one node with the image `x:1`.
    fn start(root: &Path) -> Result<Self> {
        let sandbox = Sandbox::with_network()?;
        let prepared = sandbox
            .command("sh")
            .args(["-c", &format!("ip link set lo up && ip address add {ADDRESS}/32 dev lo")])
            .status()?;
        ensure!(prepared.success(), "the peer's loopback cannot be set up");
        let dockerd = Dockerd::start(root, sandbox)?;
        dockerd.docker(&["swarm", "init", "--advertise-addr", ADDRESS])?;
        dockerd.import_busybox()?;
        Ok(Self(dockerd))
    }

    /// As in `containers::first_instruction`.
    fn first_instructions(&self) -> Result<Vec<Duration>> {
        let pipe = self.0.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        let mount = format!("type=bind,source={},target=/pipe", pipe.display());
        let flags =
            ["service", "create", "--detach", "--network", "host", "--restart-condition", "none", "--mount", &mount];
        let mut samples = Vec::new();
        for number in 0..15 {
            let name = format!("first-{number}");
            let start = Instant::now();
            let mut create = self
                .0
                .command(&[&flags[..], &["--name", &name, "x:1", "sh", "-c", "echo > /pipe"]].concat())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            first_byte(&pipe)?;
            samples.push(start.elapsed());
            ensure!(create.wait()?.success(), "docker service create failed");
            self.0.docker(&["service", "rm", &name])?;
        }
        Ok(samples)
    }

    /// A hundred replicas: started in a second, kilobytes of a shim, stopped in a second.
    fn replicas(&self) -> Result<(f64, u64, f64)> {
        self.until("no shims", |shims, _| shims == 0)?;
        let start = Instant::now();
        let flags = ["service", "create", "--detach", "--network", "host", "--name", "many", "--replicas", "100"];
        self.0.docker(&[&flags[..], &["x:1", "sh", "-c", SERVER]].concat())?;
        self.until("100 replicas", |shims, dockerd| {
            shims >= 100
                && dockerd
                    .docker(&["service", "ls", "--format", "{{.Replicas}}"])
                    .is_ok_and(|replicas| replicas.lines().any(|line| line == "100/100"))
        })?;
        let up = 100.0 / start.elapsed().as_secs_f64();
        let shims = self.shims();
        let weights = shims.iter().map(|&shim| proportional_set_size(shim)).collect::<Result<Vec<_>>>()?;
        let shim = weights.iter().sum::<u64>() / (weights.len() as u64).max(1);
        let start = Instant::now();
        self.0.docker(&["service", "rm", "many"])?;
        self.until("no shims", |shims, _| shims == 0)?;
        Ok((up, shim, 100.0 / start.elapsed().as_secs_f64()))
    }

    fn shims(&self) -> Vec<i32> {
        self.0.sandbox().processes("containerd-shim-runc-v2")
    }

    fn until(&self, what: &str, is_so: impl Fn(usize, &Dockerd) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_so(self.shims().len(), &self.0) {
            ensure!(Instant::now() < end, "not in time: {what}");
        }
        Ok(())
    }
}
