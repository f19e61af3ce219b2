//! One node as the scheduler sees it.

use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::service::Resources;

use super::Wanted;

/// So many failures of a service on a node within [`FAILURE_WINDOW`](super::hosts::FAILURE_WINDOW) put that node last.
const MAX_FAILURES: u32 = 5;

/// A node, and what the tasks on it use.
#[derive(Debug, Clone)]
pub(super) struct Host<'a> {
    pub(super) node: &'a Node,
    /// Tasks that are on it, without those that are to end.
    pub(super) tasks: u32,
    free: Free,
}

/// What a service has on one node.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OfService {
    pub(super) tasks: u32,
    pub(super) failures: u32,
}

/// Of two nodes, the one with the lower rank is the better: fails again and again, tasks of the service, tasks.
pub(super) type Rank = (bool, u32, u32);

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
        Self { node, tasks: 0, free }
    }

    /// Takes a task's share.
    pub(super) fn reserve(&mut self, resources: &Resources) {
        self.free.take(resources);
    }

    /// Whether it takes tasks at all.
    pub(super) fn is_available(&self) -> bool {
        self.node.state == NodeState::Ready && self.node.availability == Availability::Active
    }

    /// Why it takes no task of a service that has `of_service` on it.
    pub(super) fn refuses(&self, wanted: &Wanted<'_>, of_service: OfService) -> Option<Reason> {
        let rules = wanted.rules;
        if !self.is_available() {
            Some(Reason::NotAvailable)
        } else if !rules.allows(self.node) {
            Some(Reason::Constraints)
        } else if !self.free.fits(wanted.resources) {
            Some(Reason::Resources)
        } else if rules.max_replicas_per_node > 0 && u64::from(of_service.tasks) >= rules.max_replicas_per_node {
            Some(Reason::MaxReplicas)
        } else {
            None
        }
    }

    pub(super) fn rank(&self, of_service: OfService) -> Rank {
        (of_service.failures >= MAX_FAILURES, of_service.tasks, self.tasks)
    }
}
