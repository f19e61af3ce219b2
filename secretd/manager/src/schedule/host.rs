//! One node as the scheduler sees it.

use std::collections::HashMap;
use std::time::Duration;

use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::service::Resources;
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;
use secretd_proto::id::ServiceId;

use super::Wanted;

/// So many failures of a service on a node within [`FAILURE_WINDOW`] put that node last.
const MAX_FAILURES: u32 = 5;
const FAILURE_WINDOW: Duration = Duration::from_mins(5);

/// A node, and what the tasks on it use.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) node: &'a Node,
    free: Free,
    tasks: u32,
    by_service: HashMap<ServiceId, PerService>,
}

/// Of two nodes, the one with the lower rank is the better: fails again and again, tasks of the service, tasks.
pub(super) type Rank = (bool, u32, u32);

#[derive(Debug, Default)]
struct PerService {
    tasks: u32,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Free {
    nano_cpus: i64,
    memory_bytes: i64,
}

impl Free {
    fn fits(self, task: &Resources) -> bool {
        self.nano_cpus >= task.reserve_nano_cpus && self.memory_bytes >= task.reserve_memory_bytes
    }

    fn take(&mut self, task: &Resources) {
        self.nano_cpus = self.nano_cpus.saturating_sub(task.reserve_nano_cpus);
        self.memory_bytes = self.memory_bytes.saturating_sub(task.reserve_memory_bytes);
    }
}

/// Why a node takes no task, in the order in which people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Constraints,
    Resources,
    NotAvailable,
    MaxReplicas,
}

impl Reason {
    pub(super) fn text(self, n: usize) -> String {
        let nodes = if n == 1 { "node" } else { "nodes" };
        match self {
            Self::Constraints => format!("scheduling constraints not satisfied on {n} {nodes}"),
            Self::Resources => format!("insufficient resources on {n} {nodes}"),
            Self::NotAvailable => format!("{n} {nodes} not available for new tasks"),
            Self::MaxReplicas => format!("max replicas per node limit exceeded on {n} {nodes}"),
        }
    }
}

impl<'a> Host<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        let free = Free { nano_cpus: node.description.nano_cpus, memory_bytes: node.description.memory_bytes };
        Self { node, free, tasks: 0, by_service: HashMap::new() }
    }

    /// Takes account of a task that is on the node.
    pub(super) fn count(&mut self, task: &Task, now: Timestamp) {
        if !task.status.state.is_terminal() {
            // One that waits for its own node is not on it yet.
            if task.status.state >= TaskState::Assigned {
                self.add(task.service_id, &task.spec.resources);
            }
        } else if matches!(task.status.state, TaskState::Failed | TaskState::Rejected) {
            let window = i64::try_from(FAILURE_WINDOW.as_nanos()).unwrap_or(i64::MAX);
            if now.0.saturating_sub(task.status.since.0) < window {
                self.by_service.entry(task.service_id).or_default().failures += 1;
            }
        }
    }

    /// Takes a task's share.
    pub(super) fn add(&mut self, service: ServiceId, resources: &Resources) {
        self.free.take(resources);
        self.tasks += 1;
        self.by_service.entry(service).or_default().tasks += 1;
    }

    /// Tasks of a service that are on the node.
    pub(super) fn tasks_of(&self, service: ServiceId) -> u32 {
        self.by_service.get(&service).map_or(0, |of| of.tasks)
    }

    pub(super) fn refuses(&self, wanted: &Wanted<'_>) -> Option<Reason> {
        let rules = wanted.rules;
        if self.node.state != NodeState::Ready || self.node.availability != Availability::Active {
            Some(Reason::NotAvailable)
        } else if !rules.allows(self.node) {
            Some(Reason::Constraints)
        } else if !self.free.fits(wanted.resources) {
            Some(Reason::Resources)
        } else if rules.max_replicas_per_node > 0
            && u64::from(self.tasks_of(wanted.service)) >= rules.max_replicas_per_node
        {
            Some(Reason::MaxReplicas)
        } else {
            None
        }
    }

    pub(super) fn rank(&self, service: ServiceId) -> Rank {
        let (tasks, failures) = self.by_service.get(&service).map_or((0, 0), |of| (of.tasks, of.failures));
        (failures >= MAX_FAILURES, tasks, self.tasks)
    }
}
