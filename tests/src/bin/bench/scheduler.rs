//! The scheduler's own code, in this process: nodes and tasks in, places out. Nothing is stored.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use secretd_core::node::{Availability, Node, NodeDescription, NodeState};
use secretd_core::placement::Placement as Rules;
use secretd_core::service::Resources;
use secretd_core::time::{Meta, Timestamp, Version};
use secretd_manager::schedule::{Placement, Wanted};
use secretd_proto::id::{NodeId, ServiceId};

use crate::statistics::{Row, at_most, percentile, ratio, show};

/// What swarmkit's own benchmark of the same sizes takes (`BenchmarkScheduler1kNodes100kTasks` and
/// `BenchmarkScheduler100kNodes1kTasks`), measured once: it needs Go and its sources.
const SWARMKIT: [Duration; 2] = [Duration::from_millis(16_800), Duration::from_millis(23_200)];

/// From the nodes as the store has them to a node for each task. Either all tasks are of one service, or each is of its own,
/// as in swarmkit's benchmark.
pub(crate) fn schedule() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let sizes = [(1_000, 100_000, Duration::from_secs(1)), (100_000, 1_000, Duration::from_millis(200))];
    for ((nodes, tasks, limit), swarmkit) in sizes.into_iter().zip(SWARMKIT) {
        let cluster: Vec<Arc<Node>> = (0..nodes).map(node).collect();
        for (services, how) in [(1, "one service"), (tasks, "a service each")] {
            let samples = (0..3).map(|_| place(&cluster, tasks, services)).collect::<Result<Vec<_>>>()?;
            let beside =
                format!("swarmkit {} (measured once), {}", show(swarmkit), ratio(swarmkit, percentile(&samples, 0.5)));
            let what = format!("scheduler, {nodes} nodes x {tasks} tasks, {how}");
            rows.push(at_most(&what, &samples, limit, &beside));
        }
    }
    Ok(rows)
}

fn place(nodes: &[Arc<Node>], tasks: u32, services: u32) -> Result<Duration> {
    let (resources, rules) = (Resources::default(), Rules::default());
    let services: Vec<ServiceId> = (0..services).map(|number| ServiceId::from_random(bytes(number))).collect();
    let each = tasks as usize / services.len();
    let start = Instant::now();
    let mut placement = Placement::new(nodes.iter(), [].iter(), Timestamp(0));
    let mut places = Vec::with_capacity(tasks as usize);
    for service in services {
        let wanted = Wanted { service, resources: &resources, rules: &rules };
        let (placed, refused) = placement.place(&wanted, each);
        ensure!(refused.is_none(), "not all tasks are placed");
        places.extend(placed);
    }
    let elapsed = start.elapsed();
    // Spread evenly, or it is not the scheduler that was measured.
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    places.iter().for_each(|place| *counts.entry(*place).or_default() += 1);
    let (fewest, most) = (counts.values().min().copied(), counts.values().max().copied());
    ensure!(fewest == most && counts.len() == nodes.len().min(tasks as usize), "not spread: {fewest:?} to {most:?}");
    ensure!(places.len() == tasks as usize && places.iter().collect::<HashSet<_>>().len() == counts.len());
    Ok(elapsed)
}

fn bytes(number: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn node(number: u32) -> Arc<Node> {
    Arc::new(Node {
        id: NodeId::from_random(bytes(number)),
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        manager: false,
        state: NodeState::Ready,
        message: String::new(),
        address: String::new(),
        spec_version: Version::default(),
        certificate: None,
        description: NodeDescription {
            hostname: format!("host{number}"),
            nano_cpus: 4_000_000_000,
            memory_bytes: 16 << 30,
            ..NodeDescription::default()
        },
    })
}
