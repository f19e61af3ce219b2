//! Which node a task goes to: a pure function of the nodes and of what they have.
//!
//! A node must take tasks and have the resources that the task reserves. Among those that do, the one wins on which the
//! service has not just failed again and again, then the one with fewest tasks of the service, then with fewest tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::service::Resources;
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, ServiceId};

/// So many failures of a service on a node within [`FAILURE_WINDOW`] put that node last.
const MAX_FAILURES: u32 = 5;
const FAILURE_WINDOW: Duration = Duration::from_mins(5);

/// The nodes, and what the tasks on them use and reserve.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    hosts: BTreeMap<NodeId, Host<'a>>,
}

#[derive(Debug)]
struct Host<'a> {
    node: &'a Node,
    free: Free,
    tasks: u32,
    by_service: HashMap<ServiceId, PerService>,
}

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

/// Why no node takes a task, as Docker says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no suitable node ({reasons})")]
pub(crate) struct NoSuitableNode {
    reasons: String,
}

impl<'a> Placement<'a> {
    /// The nodes with the tasks that are on them.
    pub(crate) fn new(
        nodes: impl Iterator<Item = &'a Arc<Node>>,
        tasks: impl Iterator<Item = &'a Arc<Task>>,
        now: Timestamp,
    ) -> Self {
        let hosts = nodes.map(|node| (node.id, Host::new(node))).collect();
        let mut placement = Self { hosts };
        for task in tasks {
            if let Some(host) = task.node_id.as_ref().and_then(|node| placement.hosts.get_mut(node)) {
                host.count(task, now);
            }
        }
        placement
    }

    /// Takes the best node for a task, and its share of that node.
    ///
    /// # Errors
    /// When no node is suitable, with the reasons.
    pub(crate) fn place(&mut self, task: &Task) -> Result<NodeId, NoSuitableNode> {
        let suitable = self.hosts.values_mut().filter(|host| host.refuses(task).is_none());
        let best = suitable.min_by_key(|host| host.rank(task.service_id));
        match best {
            Some(host) => {
                host.add(task);
                Ok(host.node.id)
            }
            None => Err(self.explain(task)),
        }
    }

    fn explain(&self, task: &Task) -> NoSuitableNode {
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for reason in self.hosts.values().filter_map(|host| host.refuses(task)) {
            *counts.entry(reason).or_default() += 1;
        }
        let reasons: Vec<_> = counts.into_iter().map(|(reason, n)| reason.text(n)).collect();
        let none = "the cluster has no nodes".to_owned();
        NoSuitableNode { reasons: if reasons.is_empty() { none } else { reasons.join("; ") } }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Resources,
    NotAvailable,
}

impl Reason {
    fn text(self, n: usize) -> String {
        let nodes = if n == 1 { "node" } else { "nodes" };
        match self {
            Self::Resources => format!("insufficient resources on {n} {nodes}"),
            Self::NotAvailable => format!("{n} {nodes} not available for new tasks"),
        }
    }
}

impl<'a> Host<'a> {
    fn new(node: &'a Node) -> Self {
        let free = Free { nano_cpus: node.description.nano_cpus, memory_bytes: node.description.memory_bytes };
        Self { node, free, tasks: 0, by_service: HashMap::new() }
    }

    fn count(&mut self, task: &Task, now: Timestamp) {
        if !task.status.state.is_terminal() {
            self.add(task);
        } else if matches!(task.status.state, TaskState::Failed | TaskState::Rejected) {
            let window = i64::try_from(FAILURE_WINDOW.as_nanos()).unwrap_or(i64::MAX);
            if now.0.saturating_sub(task.status.since.0) < window {
                self.by_service.entry(task.service_id).or_default().failures += 1;
            }
        }
    }

    fn add(&mut self, task: &Task) {
        self.free.take(&task.spec.resources);
        self.tasks += 1;
        self.by_service.entry(task.service_id).or_default().tasks += 1;
    }

    fn refuses(&self, task: &Task) -> Option<Reason> {
        if self.node.state != NodeState::Ready || self.node.availability != Availability::Active {
            Some(Reason::NotAvailable)
        } else if self.free.fits(&task.spec.resources) {
            None
        } else {
            Some(Reason::Resources)
        }
    }

    fn rank(&self, service: ServiceId) -> (bool, u32, u32) {
        let (tasks, failures) = self.by_service.get(&service).map_or((0, 0), |of| (of.tasks, of.failures));
        (failures >= MAX_FAILURES, tasks, self.tasks)
    }
}

#[cfg(test)]
mod tests;
