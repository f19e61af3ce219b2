//! Secrets into a cluster of three managers: the client speaks to the one that leads, of ours as of the peer's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use secretd_tests::client::Client;
use secretd_tests::lab::Lab;

use crate::peer::Peer;
use crate::statistics::{Row, at_least, at_most, percentile, ratio, show};
use crate::swarm_cluster::SwarmCluster;

/// Clients that write at once.
pub(crate) const CLIENTS: u32 = 16;

/// A cluster of three managers, and a client of the one that leads.
pub(crate) async fn three_managers() -> Result<(Lab, Client)> {
    let lab = Lab::cluster(3, 0)?;
    let leader = lab.leader(1)?;
    let client = Client::connect(&lab.node(leader).run_dir().join("control.sock")).await?;
    Ok((lab, client))
}

/// One client, one secret after another. The clock runs from before the sealing to the answer.
pub(crate) async fn create_small(peer: &Peer) -> Result<Vec<Row>> {
    let swarm = peer.or(Duration::from_micros(2400), |root| {
        Ok(percentile(&SwarmCluster::start(root, 3, 0)?.create_small(300)?, 0.5))
    })?;
    let (_lab, mut client) = three_managers().await?;
    let mut samples = Vec::new();
    for number in 0..1000 {
        let start = Instant::now();
        client.create_secret(&format!("small-{number}"), &[7; 512]).await?;
        samples.push(start.elapsed());
    }
    let beside = format!("{} {}, {}", peer.name(), show(swarm), ratio(swarm, percentile(&samples, 0.5)));
    Ok(vec![at_most("3 managers: secret create, 512 B, one client", &samples, swarm / 2, &beside)])
}

/// Sixteen connections, on each one secret after another. The clock runs from the first request to the last answer.
pub(crate) async fn create_at_once(peer: &Peer) -> Result<Vec<Row>> {
    let swarm = peer.or(454.0, |root| SwarmCluster::start(root, 3, 0)?.create_at_once(CLIENTS, 60, 512))?;
    let (lab, _) = three_managers().await?;
    let rate = fill(&lab, 6400).await?;
    let beside = format!("{} {swarm:.0}/s, {:.1} times", peer.name(), rate / swarm);
    Ok(vec![at_least("3 managers: secret create, 512 B, 16 clients", rate, 3000.0, &beside)])
}

/// Creates secrets of 512 B with sixteen clients of the leader: how many in a second.
pub(crate) async fn fill(lab: &Lab, count: u32) -> Result<f64> {
    let leader = lab.leader(1)?;
    let socket = lab.node(leader).run_dir().join("control.sock");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&socket).await?);
    }
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for (client, mut connection) in clients.into_iter().enumerate() {
        running.spawn(async move {
            for number in 0..count / CLIENTS {
                connection.create_secret(&format!("of-{client}-{number}"), &[7; 512]).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(f64::from(count / CLIENTS * CLIENTS) / start.elapsed().as_secs_f64())
}

/// The largest that Docker Swarm takes, one client, one after another.
pub(crate) async fn create_large(peer: &Peer) -> Result<Vec<Row>> {
    let swarm = peer.or(32.0, |root| SwarmCluster::start(root, 3, 0)?.create_at_once(1, 60, 500_000))?;
    let (_lab, mut client) = three_managers().await?;
    let value = vec![7; 500_000];
    let count = 300;
    let start = Instant::now();
    for number in 0..count {
        client.create_secret(&format!("large-{number}"), &value).await?;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    let beside = format!("{} {swarm:.1}/s, {:.1} times", peer.name(), rate / swarm);
    Ok(vec![at_least("3 managers: secret create, 500 KB, one client", rate, 100.0, &beside)])
}
