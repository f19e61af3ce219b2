//! Which node a task goes to: a pure function of the nodes and of what they have.
//!
//! A node must take tasks, have the resources that the task reserves, satisfy its constraints, and have fewer of the
//! service's tasks than it may. Among those that do, the one wins on which the service has not just failed again and
//! again, then the one with fewest tasks of the service, then with fewest tasks; placement preferences come first.
//!
//! Tasks of one specification are placed together: `group` has the nodes for them, `hosts` all nodes in the orders in which
//! they are asked for, so that a task is placed without a look at every node.

mod group;
mod host;
mod hosts;

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::node::Node;
use secretd_core::placement::Placement as Rules;
use secretd_core::service::Resources;
use secretd_core::task::Task;
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, ServiceId};

use self::group::Group;
use self::host::Reason;
use self::hosts::Hosts;

/// What tasks are placed by: that of all tasks of a service with one specification.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose tasks.
    pub service: ServiceId,
    /// What each of them reserves.
    pub resources: &'a Resources,
    /// Where they may be.
    pub rules: &'a Rules,
}

impl<'a> Wanted<'a> {
    /// What a task is placed by.
    pub fn of(task: &'a Task) -> Self {
        Self { service: task.service_id, resources: &task.spec.resources, rules: &task.spec.placement }
    }
}

/// The nodes, and what the tasks on them use and reserve.
#[derive(Debug, Clone)]
pub struct Placement<'a>(Hosts<'a>);

/// Why no node takes a task, as Docker says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("no suitable node ({reasons})")]
pub struct NoSuitableNode {
    reasons: String,
}

impl<'a> Placement<'a> {
    /// The nodes with the tasks that are on them.
    pub fn new(
        nodes: impl Iterator<Item = &'a Arc<Node>>,
        tasks: impl Iterator<Item = &'a Arc<Task>>,
        now: Timestamp,
    ) -> Self {
        Self(Hosts::new(nodes.map(|node| &**node), tasks.map(|task| &**task), now))
    }

    /// Takes the best nodes for `count` tasks of one specification, and their share of each: as many as there are
    /// suitable nodes for, and why there are no more.
    pub fn place(&mut self, wanted: &Wanted<'_>, count: usize) -> (Vec<NodeId>, Option<NoSuitableNode>) {
        let mut group = Group::new(&self.0, wanted);
        let mut placed = Vec::with_capacity(count);
        while placed.len() < count {
            match group.next(&mut self.0, wanted) {
                Some(node) => placed.push(node),
                None => return (placed, Some(self.explain(wanted))),
            }
        }
        (placed, None)
    }

    /// Takes a share of this node for a task that can be on no other.
    ///
    /// # Errors
    /// When the node is not suitable, with the reason.
    pub fn place_on(&mut self, node: &NodeId, wanted: &Wanted<'_>) -> Result<(), NoSuitableNode> {
        let refused = |reasons: String| Err(NoSuitableNode { reasons });
        let hosts = &mut self.0;
        let host = hosts.number(node).and_then(|number| Some((number, hosts.get(number)?)));
        let Some((number, host)) = host else { return refused("its node is not there any more".to_owned()) };
        match host.refuses(wanted, hosts.of_service(wanted.service, number)) {
            None => {
                hosts.add(number, wanted.service, wanted.resources);
                Ok(())
            }
            Some(reason) => refused(reason.text(1)),
        }
    }

    fn explain(&self, wanted: &Wanted<'_>) -> NoSuitableNode {
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for (number, host) in self.0.iter() {
            if let Some(reason) = host.refuses(wanted, self.0.of_service(wanted.service, number)) {
                *counts.entry(reason).or_default() += 1;
            }
        }
        let reasons: Vec<_> = counts.into_iter().map(|(reason, n)| reason.text(n)).collect();
        let none = "the cluster has no nodes".to_owned();
        NoSuitableNode { reasons: if reasons.is_empty() { none } else { reasons.join("; ") } }
    }
}

#[cfg(test)]
mod tests;
