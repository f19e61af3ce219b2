//! What stored secrets weigh in the memory of managers: payloads must not stay there.

use anyhow::Result;

use crate::cluster::three_managers;
use crate::peer::Peer;
use crate::statistics::{Row, proportional_set_size};
use crate::swarm_cluster::SwarmCluster;

/// Secrets that are stored before the first look, so that buffers and caches have their size.
const BEFORE: u32 = 1000;
/// Secrets between the two looks.
const MORE: u32 = 3000;
/// Bytes for each secret.
const LIMIT: u64 = 2048;

/// Of the manager that has grown most: its proportional set size (PSS) after 4,000 secrets of 500 KB less that after 1,000,
/// for each of the 3,000.
pub(crate) async fn memory(peer: &Peer) -> Result<Vec<Row>> {
    let swarm = peer.or(2 << 20, |root| SwarmCluster::start(root, 3, 0)?.memory(20, 80))?;
    let (lab, mut client) = three_managers().await?;
    let value = vec![7; 500_000];
    let weights = || {
        let pids = lab.nodes().iter().map(secretd_tests::node::Node::daemon_pid);
        pids.map(|pid| proportional_set_size(pid?)).collect::<Result<Vec<u64>>>()
    };
    for number in 0..BEFORE {
        client.create_secret(&format!("first-{number}"), &value).await?;
    }
    let light = weights()?;
    for number in 0..MORE {
        client.create_secret(&format!("more-{number}"), &value).await?;
    }
    let heavy = weights()?;
    let grown = heavy.iter().zip(&light).map(|(now, then)| now.saturating_sub(*then)).max().unwrap_or_default();
    let each = grown * 1024 / u64::from(MORE);
    let mut sizes = String::new();
    for (then, now) in light.iter().zip(&heavy) {
        sizes += &format!(" {:.1}->{:.1}", *then as f64 / 1024.0, *now as f64 / 1024.0);
    }
    Ok(vec![Row {
        what: "3 managers: memory for each secret of 500 KB".to_owned(),
        measured: format!("{each} B"),
        target: format!("<= {LIMIT} B"),
        beside: format!("PSS in MB{sizes}; {} {swarm} B, {:.0} times", peer.name(), swarm as f64 / each.max(1) as f64),
        reached: each <= LIMIT,
    }])
}
