//! Which slots to open when a service has too few, and which to close when it has too many.

use std::collections::{BTreeMap, HashMap};

use secretd_proto::id::NodeId;

use super::slot::Slot;

/// The lowest `n` numbers, from 1, that no slot has.
pub(crate) fn free_numbers(slots: &BTreeMap<u64, Slot<'_>>, n: u64) -> Vec<u64> {
    let free = (1..).filter(|number| !slots.contains_key(number));
    free.take(usize::try_from(n).unwrap_or(usize::MAX)).collect()
}

/// The `n` slots to close: first those that do not run, then those on nodes with most of the service's running slots,
/// then the highest numbers.
pub(crate) fn to_close(slots: &BTreeMap<u64, Slot<'_>>, n: u64) -> Vec<u64> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    let (running, idle): (Vec<_>, Vec<_>) = slots.values().partition(|slot| slot.is_running());
    let mut closed: Vec<u64> = idle.iter().rev().map(|slot| slot.number).take(n).collect();

    let mut on_node: HashMap<Option<NodeId>, Vec<u64>> = HashMap::new();
    for slot in running {
        let node = slot.live().find_map(|task| task.node_id);
        on_node.entry(node).or_default().push(slot.number);
    }
    while closed.len() < n {
        let fullest = on_node.values_mut().max_by_key(|numbers| (numbers.len(), numbers.last().copied()));
        match fullest.and_then(Vec::pop) {
            Some(number) => closed.push(number),
            None => break,
        }
    }
    closed
}
