//! A manager that was killed comes back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use secretd_proto::v1::GetSecretRequest;
use secretd_proto::v1::control_client::ControlClient;
use secretd_tests::client::{Client, channel};
use secretd_tests::lab::Lab;

use crate::cluster::fill;
use crate::loss::settled_leader;
use crate::peer::Peer;
use crate::statistics::{Row, at_most, percentile, ratio, show};
use crate::swarm_cluster::SwarmCluster;

/// Secrets that the manager has.
const SECRETS: u32 = 10_000;
/// Between two attempts to read.
const PAUSE: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_millis(300);

/// From the start of secretd, which was killed, to the first linearizable read that it answers: of one secret's metadata,
/// asked for again and again on a new connection. First of a manager that follows, then of the only one.
pub(crate) async fn restart(peer: &Peer, trials: u32) -> Result<Vec<Row>> {
    let swarm = peer.or(vec![Duration::from_secs(5)], |root| SwarmCluster::start(root, 3, 0)?.restart(SECRETS, 2))?;
    let swarm = percentile(&swarm, 0.5);
    let beside =
        |samples: &[Duration]| format!("{} {}, {}", peer.name(), show(swarm), ratio(swarm, percentile(samples, 0.5)));
    let of_three = one_of_three(trials).await?;
    let alone = the_only_one(trials).await?;
    let row = |what: &str, samples: &[Duration]| at_most(what, samples, LIMIT, &beside(samples));
    Ok(vec![
        row("10,000 secrets: one of 3 managers restarted to first read", &of_three),
        row("10,000 secrets: only manager restarted to first read", &alone),
    ])
}

async fn one_of_three(trials: u32) -> Result<Vec<Duration>> {
    let mut lab = Lab::cluster(3, 0)?;
    fill(&lab, SECRETS).await?;
    let mut samples = Vec::new();
    for _ in 0..trials {
        let lost = settled_leader(&lab, 1)? % 3 + 1;
        samples.push(one_restart(&mut lab, lost).await?);
    }
    Ok(samples)
}

async fn the_only_one(trials: u32) -> Result<Vec<Duration>> {
    let mut lab = Lab::cluster(1, 0)?;
    fill(&lab, SECRETS).await?;
    let mut samples = Vec::new();
    for _ in 0..trials {
        samples.push(one_restart(&mut lab, 1).await?);
    }
    Ok(samples)
}

async fn one_restart(lab: &mut Lab, number: usize) -> Result<Duration> {
    let name = format!("known-{}", secretd_proto::id::SecretId::random());
    let socket = lab.node(number).run_dir().join("control.sock");
    Client::connect(&socket).await?.create_secret(&name, b"x").await?;
    let node = lab.node_mut(number);
    node.kill_daemon()?;
    let start = Instant::now();
    let serves = node.spawn_daemon()?;
    while let Err(error) = read(&socket, &name).await {
        ensure!(start.elapsed() < Duration::from_secs(60), "no read is answered: {error:#}");
        tokio::time::sleep(PAUSE).await;
    }
    let elapsed = start.elapsed();
    serves.wait(node)?;
    Ok(elapsed)
}

async fn read(socket: &Path, name: &str) -> Result<()> {
    let mut control = ControlClient::new(channel(socket).await?);
    control.get_secret(GetSecretRequest { reference: name.to_owned() }).await?;
    Ok(())
}
