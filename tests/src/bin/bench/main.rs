//! `make bench`: figures of one node and of a cluster, each beside what the machine itself and Docker Swarm do in the same
//! run.
//!
//! `bench DOCKER [NAME...]`: DOCKER is a directory below which Docker is unpacked (`tests/peer.sh`). Without it, figures
//! that were measured elsewhere stand in its place, and the table says so. Each NAME is a figure (an unknown one prints all
//! names), all of them without. BENCH_TRIALS says how often what is lost is lost (20).
//!
//! Prints a table. Nothing here is a test: a busy machine gives other figures, and only the ratios hold.

mod agents;
mod baseline;
mod cluster;
mod containers;
mod dockerd;
mod footprint;
mod loss;
mod peer;
mod restart;
mod scheduler;
mod secrets;
mod statistics;
mod swarm;
mod swarm_cluster;

use std::process::ExitCode;

use anyhow::{Context, Result};
use secretd_tests::client::Client;
use secretd_tests::node::Node;

use crate::peer::Peer;
use crate::statistics::Row;
use crate::swarm::Figures;

/// Figures of one node, measured on the same one after another.
const OF_ONE_NODE: [&str; 6] = ["idle-memory", "create", "create-large", "start", "update", "reads-and-replicas"];
/// Figures of a cluster and of its parts, each with nodes of its own.
const OF_CLUSTER: [&str; 9] = [
    "scheduler",
    "cluster-create",
    "cluster-clients",
    "cluster-large",
    "cluster-memory",
    "cluster-restart",
    "agents",
    "failover",
    "node-loss",
];
/// Trials of what is lost.
const TRIALS: u32 = 20;

fn main() -> Result<ExitCode> {
    secretd_sys::allocator::limit(); // so that page faults of this client are not what is measured of either
    let mut arguments = std::env::args_os().skip(1);
    let peer = Peer::new(arguments.next().unwrap_or_default().into());
    let wanted: Vec<String> = arguments.map(|name| name.to_string_lossy().into_owned()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !OF_ONE_NODE.iter().chain(&OF_CLUSTER).any(|known| known == name))
    {
        complain(unknown);
        return Ok(ExitCode::from(2));
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    print_head();
    if OF_ONE_NODE.iter().any(|name| is_wanted(name)) {
        runtime.block_on(one_node(&peer, is_wanted))?;
    }
    for name in OF_CLUSTER.iter().filter(|name| is_wanted(name)) {
        print(&runtime.block_on(cluster_figure(&peer, name))?);
    }
    Ok(ExitCode::SUCCESS)
}

async fn one_node(peer: &Peer, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let swarm = peer.root().map_or_else(|| Ok(Figures::written_down()), Figures::measure)?;
    let node = Node::start()?;
    node.found()?;
    node.import_probe()?;
    let mut client = Client::connect(&node.run_dir().join("control.sock")).await?;
    for name in OF_ONE_NODE.iter().filter(|name| is_wanted(name)) {
        let rows = match *name {
            "idle-memory" => containers::idle_memory(&node, &swarm)?,
            "create" => secrets::create_small(&node, &mut client, &swarm).await?,
            "create-large" => secrets::create_large(&mut client, &swarm).await?,
            "start" => containers::first_instruction(&node, &swarm)?,
            "update" => containers::update_seen(&node, &mut client).await?,
            _ => [containers::reads(&node)?, containers::replicas(&node, &swarm)?].concat(),
        };
        print(&rows);
    }
    Ok(())
}

async fn cluster_figure(peer: &Peer, name: &str) -> Result<Vec<Row>> {
    let trials = match std::env::var("BENCH_TRIALS") {
        Ok(text) => text.parse().context("BENCH_TRIALS is no number")?,
        Err(_) => TRIALS,
    };
    match name {
        "scheduler" => scheduler::schedule(),
        "cluster-create" => cluster::create_small(peer).await,
        "cluster-clients" => cluster::create_at_once(peer).await,
        "cluster-large" => cluster::create_large(peer).await,
        "cluster-memory" => footprint::memory(peer).await,
        "cluster-restart" => restart::restart(peer, trials).await,
        "agents" => agents::idle().await,
        "failover" => loss::failover(peer, trials).await,
        _ => loss::node_loss(peer, trials.div_ceil(2)).await,
    }
}

#[allow(clippy::print_stderr)]
fn complain(unknown: &str) {
    let names = [OF_ONE_NODE.as_slice(), OF_CLUSTER.as_slice()].concat().join(" ");
    eprintln!("bench: there is no figure {unknown:?}: give names of {names}");
}

#[allow(clippy::print_stdout)] // the table is what this program is for
fn print_head() {
    println!("{:<64} {:>11} {:>12}   beside it", "what", "measured", "must reach");
}

#[allow(clippy::print_stdout)]
fn print(rows: &[Row]) {
    for row in rows {
        let mark = if row.reached { "" } else { "  MISSED" };
        println!("{:<64} {:>11} {:>12}   {}{mark}", row.what, row.measured, row.target, row.beside);
    }
}
