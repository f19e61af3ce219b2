//! Secrets into the store.

use std::time::Instant;

use anyhow::Result;
use secretd_tests::client::Client;
use secretd_tests::node::Node;

use crate::baseline;
use crate::statistics::{Row, at_least, at_most, percentile, show};
use crate::swarm::Figures;

/// One client, one after another, each durable: against the disk alone in the same directory.
pub(crate) async fn create_small(node: &Node, client: &mut Client, swarm: &Figures) -> Result<Vec<Row>> {
    let disk = percentile(&baseline::durable_appends(&node.data_dir(), 512, 500)?, 0.5);
    let mut samples = Vec::new();
    for number in 0..1000 {
        let start = Instant::now();
        client.create_secret(&format!("small-{number}"), &[7; 512]).await?;
        samples.push(start.elapsed());
    }
    let again = percentile(&baseline::durable_appends(&node.data_dir(), 512, 500)?, 0.5);
    let disk = disk.max(again);
    let limit = (disk * 3).min(swarm.create_small);
    let median = percentile(&samples, 0.5);
    let ratio = median.as_secs_f64() / disk.as_secs_f64();
    let beside = format!(
        "append and fdatasync of 512 B {} (ratio {ratio:.1}); {} {}",
        show(disk),
        swarm.name,
        show(swarm.create_small)
    );
    Ok(vec![at_most("secret create, 512 B, one client, durable", &samples, limit, &beside)])
}

/// The largest that Docker Swarm would take, too.
pub(crate) async fn create_large(client: &mut Client, swarm: &Figures) -> Result<Vec<Row>> {
    let value = vec![7; 500_000];
    let count = 200;
    let start = Instant::now();
    for number in 0..count {
        client.create_secret(&format!("large-{number}"), &value).await?;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    let beside = format!("3 x {} {:.1}/s", swarm.name, swarm.create_large);
    Ok(vec![at_least("secret create, 500 KB, one client, durable", rate, 3.0 * swarm.create_large, &beside)])
}
