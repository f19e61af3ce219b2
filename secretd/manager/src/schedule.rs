//! Which node a task goes to: a pure function of the nodes and of what they have.
//!
//! A node must take tasks, have the resources that the task reserves, satisfy its constraints, and have fewer of the
//! service's tasks than it may. Among those that do, the one wins on which the service has not just failed again and
//! again, then the one with fewest tasks of the service, then with fewest tasks; placement preferences come first.
//!
//! Tasks of one specification are placed together, so that the nodes are judged once for all of them: [`group`] has one
//! queue of nodes for each branch of the preferences.

mod group;
mod host;

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::node::Node;
use secretd_core::placement::Placement as Rules;
use secretd_core::service::Resources;
use secretd_core::task::Task;
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, ServiceId};

use self::group::Group;
use self::host::{Host, Reason};

/// What tasks are placed by: that of all tasks of a service with one specification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) service: ServiceId,
    pub(crate) resources: &'a Resources,
    pub(crate) rules: &'a Rules,
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(task: &'a Task) -> Self {
        Self { service: task.service_id, resources: &task.spec.resources, rules: &task.spec.placement }
    }
}

/// The nodes, and what the tasks on them use and reserve.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    hosts: Vec<Host<'a>>,
    by_id: BTreeMap<NodeId, usize>,
}

/// Why no node takes a task, as Docker says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
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
        let hosts: Vec<Host<'a>> = nodes.map(|node| Host::new(node)).collect();
        let by_id = hosts.iter().enumerate().map(|(index, host)| (host.node.id, index)).collect();
        let mut placement = Self { hosts, by_id };
        for task in tasks {
            let index = task.node_id.as_ref().and_then(|node| placement.by_id.get(node));
            if let Some(host) = index.and_then(|index| placement.hosts.get_mut(*index)) {
                host.count(task, now);
            }
        }
        placement
    }

    /// Takes the best nodes for `count` tasks of one specification, and their share of each: as many as there are
    /// suitable nodes for, and why there are no more.
    pub(crate) fn place(&mut self, wanted: &Wanted<'_>, count: usize) -> (Vec<NodeId>, Option<NoSuitableNode>) {
        let mut group = Group::new(&self.hosts, wanted);
        let mut placed = Vec::with_capacity(count);
        while placed.len() < count {
            match group.next(&mut self.hosts, wanted) {
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
    pub(crate) fn place_on(&mut self, node: &NodeId, wanted: &Wanted<'_>) -> Result<(), NoSuitableNode> {
        let host = self.by_id.get(node).and_then(|index| self.hosts.get_mut(*index));
        let refused = |reasons: String| Err(NoSuitableNode { reasons });
        match host {
            Some(host) => match host.refuses(wanted) {
                None => {
                    host.add(wanted.service, wanted.resources);
                    Ok(())
                }
                Some(reason) => refused(reason.text(1)),
            },
            None => refused("its node is not there any more".to_owned()),
        }
    }

    fn explain(&self, wanted: &Wanted<'_>) -> NoSuitableNode {
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for reason in self.hosts.iter().filter_map(|host| host.refuses(wanted)) {
            *counts.entry(reason).or_default() += 1;
        }
        let reasons: Vec<_> = counts.into_iter().map(|(reason, n)| reason.text(n)).collect();
        let none = "the cluster has no nodes".to_owned();
        NoSuitableNode { reasons: if reasons.is_empty() { none } else { reasons.join("; ") } }
    }
}

#[cfg(test)]
mod tests;
