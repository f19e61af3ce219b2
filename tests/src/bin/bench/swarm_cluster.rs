//! Docker Swarm with three managers, each on a network namespace of its own on one bridge, as our own lab has them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::{Network, until};

use crate::dockerd::{Dockerd, first_byte};

/// Daemons on one bridge: managers first, then workers.
pub(crate) struct SwarmCluster {
    nodes: Vec<Dockerd>,
    /// It ends after the nodes.
    network: Network,
}

impl SwarmCluster {
    /// A swarm of so many managers and workers.
    pub(crate) fn start(root: &Path, managers: usize, workers: usize) -> Result<Self> {
        let mut this = Self { nodes: Vec::new(), network: Network::start()? };
        for number in 1..=managers + workers {
            this.nodes.push(Dockerd::start(root, this.network.sandbox(number)?)?);
        }
        this.node(1)?.docker(&["swarm", "init", "--advertise-addr", "10.77.0.1"])?;
        for number in 2..=managers + workers {
            let role = if number <= managers { "manager" } else { "worker" };
            let token = this.node(1)?.docker(&["swarm", "join-token", "--quiet", role])?;
            this.node(number)?.docker(&["swarm", "join", "--token", &token, "10.77.0.1:2377"])?;
        }
        Ok(this)
    }

    fn node(&self, number: usize) -> Result<&Dockerd> {
        self.nodes.get(number - 1).context("no such node")
    }

    fn node_mut(&mut self, number: usize) -> Result<&mut Dockerd> {
        self.nodes.get_mut(number - 1).context("no such node")
    }

    /// The manager that leads, once all answer.
    fn settled_leader(&self, asked: usize) -> Result<usize> {
        until("all managers of the swarm answer", || {
            let rows = self.node(asked)?.docker(&[
                "node",
                "ls",
                "--format",
                "{{.Hostname}} {{.Status}} {{.ManagerStatus}}",
            ])?;
            let leader =
                rows.lines().find_map(|row| row.strip_suffix(" Ready Leader")?.strip_prefix('n')?.parse().ok());
            let answering = rows.lines().filter(|row| row.ends_with("Ready Reachable")).count();
            Ok(leader.filter(|_| answering == 2))
        })
    }

    /// Secrets of 512 B, one client of the leader, one after another.
    pub(crate) fn create_small(&self, count: u32) -> Result<Vec<Duration>> {
        let mut api = self.node(1)?.api()?;
        (0..count)
            .map(|number| {
                let start = Instant::now();
                api.create_secret(&format!("small-{number}"), 512)?;
                Ok(start.elapsed())
            })
            .collect()
    }

    /// Secrets in a second, with so many clients of the leader at once.
    pub(crate) fn create_at_once(&self, clients: u32, each: u32, length: usize) -> Result<f64> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..clients)
                .map(|client| {
                    scope.spawn(move || -> Result<()> {
                        let mut api = self.node(1)?.api()?;
                        for number in 0..each {
                            api.create_secret(&format!("of-{length}-{client}-{number}"), length)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
        })?;
        Ok(f64::from(clients * each) / start.elapsed().as_secs_f64())
    }

    /// From the kill of the leader to the next write that another manager acknowledges.
    pub(crate) fn failover(&mut self, trials: u32) -> Result<Vec<Duration>> {
        let mut asked = 1;
        let mut samples = Vec::new();
        for trial in 0..trials {
            let lost = self.settled_leader(asked)?;
            asked = lost % 3 + 1;
            let start = Instant::now();
            self.node_mut(lost)?.kill()?;
            until("a write is acknowledged", || {
                self.node(asked)?.api()?.create_secret(&format!("after-{trial}"), 512).map(Some)
            })?;
            samples.push(start.elapsed());
            self.node_mut(lost)?.start_again()?;
        }
        Ok(samples)
    }

    /// From a worker's loss of the network to the first instruction of its task on the other worker.
    pub(crate) fn node_loss(&self, trials: u32) -> Result<Vec<Duration>> {
        for number in 4..=5 {
            self.node(number)?.import_busybox()?;
        }
        let pipe = self.node(1)?.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        let mount = format!("type=bind,source={},target=/pipe", pipe.display());
        let flags = ["--detach", "--network", "host", "--constraint", "node.role==worker", "--mount", &mount];
        let task = ["--name", "one", "x:1", "sh", "-c", "echo > /pipe; sleep 100000"];
        self.node(1)?.docker(&[&["service", "create"], flags.as_slice(), &task].concat())?;
        first_byte(&pipe)?;
        let mut samples = Vec::new();
        for _ in 0..trials {
            let on = until("the task runs", || {
                let filter = ["service", "ps", "one", "--filter", "desired-state=running", "--format"];
                let rows = self.node(1)?.docker(&[filter.as_slice(), &["{{.Node}} {{.CurrentState}}"]].concat())?;
                let node = rows.lines().find_map(|row| row.split_once(" Running")?.0.strip_prefix('n')?.parse().ok());
                Ok::<Option<usize>, _>(node)
            })?;
            let start = Instant::now();
            self.network.cut(on)?;
            first_byte(&pipe)?;
            samples.push(start.elapsed());
            self.network.heal(on)?;
            until("the node is back", || {
                let rows = self.node(1)?.docker(&["node", "ls", "--format", "{{.Status}}"])?;
                Ok(rows.lines().all(|row| row == "Ready").then_some(()))
            })?;
        }
        Ok(samples)
    }

    /// From the start of a manager that was killed to the first read that it answers.
    pub(crate) fn restart(&mut self, secrets: u32, trials: u32) -> Result<Vec<Duration>> {
        self.create_at_once(16, secrets / 16, 512)?;
        let known = self.node(1)?.api()?.create_secret("known", 512)?;
        let mut samples = Vec::new();
        for _ in 0..trials {
            let leader = self.settled_leader(1)?;
            let lost = leader % 3 + 1;
            self.node_mut(lost)?.kill()?;
            let start = Instant::now();
            self.node_mut(lost)?.start_again()?;
            until("a read is answered", || self.node(lost)?.api()?.inspect_secret(&known).map(Some))?;
            samples.push(start.elapsed());
        }
        Ok(samples)
    }

    /// Bytes of the heaviest manager for each secret of 500 KB.
    pub(crate) fn memory(&self, before: u32, more: u32) -> Result<u64> {
        let mut api = self.node(1)?.api()?;
        let weights = || (1..=3).map(|number| self.node(number)?.weight("dockerd")).collect::<Result<Vec<u64>>>();
        for number in 0..before {
            api.create_secret(&format!("first-{number}"), 500_000)?;
        }
        let light = weights()?;
        for number in 0..more {
            api.create_secret(&format!("more-{number}"), 500_000)?;
        }
        let grown = weights()?.into_iter().zip(light).map(|(now, then)| now.saturating_sub(then)).max();
        ensure!(more > 0, "no secrets");
        Ok(grown.unwrap_or_default() * 1024 / u64::from(more))
    }
}
