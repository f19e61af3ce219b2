//! `make bench`: figures of one node, each beside what the machine itself and Docker Swarm do in the same run.
//!
//! `bench [DOCKER]`: DOCKER is a directory below which Docker is unpacked (`tests/peer.sh`). Without it, figures that were
//! measured elsewhere stand in its place, and the table says so.
//!
//! Prints one table. Nothing here is a test: a busy machine gives other figures, and only the ratios hold.

mod baseline;
mod containers;
mod secrets;
mod statistics;
mod swarm;

use std::path::PathBuf;

use anyhow::Result;
use secretd_tests::client::Client;
use secretd_tests::node::Node;

use crate::statistics::Row;
use crate::swarm::Figures;

fn main() -> Result<()> {
    secretd_sys::allocator::limit(); // so that page faults of this client are not what is measured of either
    let docker = std::env::args_os().nth(1).map(PathBuf::from).filter(|root| root.join("usr/sbin/dockerd").is_file());
    let swarm = docker.map_or_else(|| Ok(Figures::written_down()), |root| Figures::measure(&root))?;
    let node = prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(measure(&node, &swarm))?;
    print(&rows);
    Ok(())
}

/// A node whose image has the probe.
fn prepare() -> Result<Node> {
    let node = Node::start()?;
    node.found()?;
    node.import_probe()?;
    Ok(node)
}

async fn measure(node: &Node, swarm: &Figures) -> Result<Vec<Row>> {
    let mut client = Client::connect(&node.run_dir().join("control.sock")).await?;
    let mut rows = Vec::new();
    rows.extend(containers::idle_memory(node, swarm)?);
    rows.extend(secrets::create_small(node, &mut client, swarm).await?);
    rows.extend(secrets::create_large(&mut client, swarm).await?);
    rows.extend(containers::first_instruction(node, swarm)?);
    rows.extend(containers::update_seen(node, &mut client).await?);
    rows.extend(containers::reads(node)?);
    rows.extend(containers::replicas(node, swarm)?);
    Ok(rows)
}

#[allow(clippy::print_stdout)] // the table is what this program is for
fn print(rows: &[Row]) {
    println!("{:<58} {:>14} {:>14}   beside it", "what", "measured", "must reach");
    for row in rows {
        let mark = if row.reached { "" } else { "  MISSED" };
        println!("{:<58} {:>14} {:>14}   {}{mark}", row.what, row.measured, row.target, row.beside);
    }
}
