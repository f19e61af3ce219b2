//! What is lost, and how soon the cluster does without it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use secretd_tests::client::Client;
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;

use crate::dockerd::first_byte;
use crate::peer::Peer;
use crate::statistics::{Row, at_most, percentile, ratio, show, tail_at_most};
use crate::swarm_cluster::SwarmCluster;

/// From SIGKILL for the leader to the next write that another manager acknowledges. The write is asked for at once, of a
/// manager that is chosen before, over a connection that is there; one that fails is asked for again.
pub(crate) async fn failover(peer: &Peer, trials: u32) -> Result<Vec<Row>> {
    let swarm = peer.or(vec![Duration::from_secs(14)], |root| SwarmCluster::start(root, 3, 0)?.failover(2))?;
    let swarm = percentile(&swarm, 0.5);
    let mut lab = Lab::cluster(3, 0)?;
    let mut asked = 1;
    let mut samples = Vec::new();
    for trial in 0..trials {
        let lost = settled_leader(&lab, asked)?;
        asked = lost % 3 + 1;
        let mut client = Client::connect(&lab.node(asked).run_dir().join("control.sock")).await?;
        client.create_secret(&format!("before-{trial}"), &[7; 512]).await?;
        let pid = Pid::from_raw(lab.node(lost).daemon_pid()?).context("pid")?;
        let start = Instant::now();
        kill_process(pid, Signal::KILL)?;
        let mut attempt = 0;
        while client.create_secret(&format!("after-{trial}-{attempt}"), &[7; 512]).await.is_err() {
            attempt += 1;
        }
        samples.push(start.elapsed());
        lab.node_mut(lost).kill_daemon()?; // it is dead: this waits for it
        lab.node_mut(lost).start_daemon()?;
    }
    let beside = format!("{} {}, {}", peer.name(), show(swarm), ratio(swarm, percentile(&samples, 0.5)));
    let what = "3 managers: leader killed to next write";
    Ok(vec![
        at_most(what, &samples, Duration::from_millis(500), &beside),
        tail_at_most(what, &samples, Duration::from_millis(1500), &beside),
    ])
}

/// The manager that leads, once all three answer and have what it has.
pub(crate) fn settled_leader(lab: &Lab, asked: usize) -> Result<usize> {
    let all = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    let is_settled = |rows: &str| {
        let is = |end: &str| rows.lines().filter(|row| row.ends_with(end)).count();
        is("Ready Leader") == 1 && is("Ready Reachable") == 2
    };
    let rows = until_shown(lab.node(asked), &all, is_settled)?;
    let leader = rows.lines().find_map(|row| row.strip_suffix(" Ready Leader")?.strip_prefix('n')?.parse().ok());
    let leader = leader.context("no leader")?;
    for number in 1..=3 {
        until("every manager answers", || Ok((lab.leader(number)? == leader).then_some(())))?;
    }
    Ok(leader)
}

/// From a worker's loss of the network to the first instruction of its task on the other worker, which writes into a pipe
/// of the host.
pub(crate) async fn node_loss(peer: &Peer, trials: u32) -> Result<Vec<Row>> {
    let swarm = peer.or(vec![Duration::from_secs(15)], |root| SwarmCluster::start(root, 3, 2)?.node_loss(2))?;
    let swarm = percentile(&swarm, 0.5);
    let lab = Lab::cluster(3, 2)?;
    let pipe = lab.node(1).path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    let mount = format!("type=bind,source={},target=/pipe", pipe.display());
    let flags = ["--detach", "--name", "one", "--constraint", "node.role==worker", "--stop-signal", "KILL"];
    let task = ["--mount", &mount, "busybox:1", "sh", "-c", "echo > /pipe; sleep 100000"];
    lab.node(1).ok(&[&["service", "create"], flags.as_slice(), &task].concat())?;
    first_byte(&pipe)?;
    let mut samples = Vec::new();
    for _ in 0..trials {
        let on = until("the task runs", || where_it_runs(lab.node(1)))?;
        let start = Instant::now();
        lab.cut(on)?;
        first_byte(&pipe)?;
        samples.push(start.elapsed());
        lab.heal(on)?;
        until("its old task ends", || Ok(lab.node(on).shims().is_empty().then_some(())))?;
        until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| !all.contains("Down"))?;
    }
    let beside = format!("{} {}, {}", peer.name(), show(swarm), ratio(swarm, percentile(&samples, 0.5)));
    Ok(vec![tail_at_most("node lost to its task running elsewhere", &samples, Duration::from_secs(5), &beside)])
}

/// The node of the one running task.
fn where_it_runs(node: &Node) -> Result<Option<usize>> {
    let filter = ["service", "ps", "one", "-f", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}"];
    let rows = node.ok(&filter)?;
    Ok(rows.lines().find_map(|row| row.split_once(" Running")?.0.strip_prefix('n')?.parse().ok()))
}
