//! After the same entry, every node has the same state.

use std::collections::BTreeMap;

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct StateMachine {
    /// By the index of the last entry: version and digest of the state.
    states: BTreeMap<u64, (u64, u64)>,
    last: BTreeMap<usize, (u64, u64)>,
}

impl Invariant for StateMachine {
    fn name(&self) -> &'static str {
        "the same entries give the same state"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            let Some(applied) = node.standing.applied else { continue };
            // The view is taken with the standing: between two steps nothing is half applied.
            if self.last.insert(node.index, (node.life, applied.index)) == Some((node.life, applied.index)) {
                continue;
            }
            let state = (node.view.version().0, node.inspection.state_digest(&node.view));
            let known = *self.states.entry(applied.index).or_insert(state);
            if known != state {
                return Err(format!(
                    "after entry {} node {} has the state {state:x?}, others had {known:x?}",
                    applied.index, node.index
                ));
            }
        }
        Ok(())
    }
}
