//! Which nodes a global service is to have a task on.

use std::collections::{BTreeMap, BTreeSet};

use secretd_proto::id::NodeId;

use super::plan::Host;
use super::slot::Slot;

/// What to change so that each node that may have a task has one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cover {
    /// Nodes that get a slot, with its number.
    pub(crate) open: Vec<(u64, NodeId)>,
    /// Slots of nodes that are to have none any more.
    pub(crate) close: Vec<u64>,
    /// Slots of nodes that cannot be reached: they stay as they are.
    pub(crate) leave: Vec<u64>,
}

/// Compares the slots with the nodes; those in `barred` may have no task.
pub(crate) fn cover(
    slots: &BTreeMap<u64, Slot<'_>>,
    hosts: &BTreeMap<NodeId, Host>,
    barred: &BTreeSet<NodeId>,
) -> Cover {
    let mut cover = Cover::default();
    let mut covered = BTreeSet::new();
    for slot in slots.values() {
        let node = slot.node();
        let host = node.and_then(|node| hosts.get(&node));
        let is_barred = node.is_some_and(|node| barred.contains(&node));
        match host {
            Some(Host::Down { .. }) => cover.leave.push(slot.number),
            Some(Host::Keeps) if is_barred => cover.close.push(slot.number),
            Some(Host::Keeps | Host::Pauses) => covered.extend(node),
            Some(Host::Drains) | None => cover.close.push(slot.number),
        }
    }
    let free = (1..).filter(|number| !slots.contains_key(number));
    let missing =
        hosts.iter().filter(|(node, host)| **host == Host::Keeps && !barred.contains(node) && !covered.contains(node));
    cover.open = free.zip(missing.map(|(node, _)| *node)).collect();
    cover
}
