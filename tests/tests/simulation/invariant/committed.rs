//! What is applied anywhere is agreed on: at its place every node has that entry, now and after every crash.

use std::collections::BTreeMap;

use secretd_store::simulation::EntryId;

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct Committed {
    applied: BTreeMap<u64, EntryId>,
    /// The entries of each process that it had not applied when they were seen.
    seen: BTreeMap<(usize, u64), BTreeMap<u64, EntryId>>,
}

impl Invariant for Committed {
    fn name(&self) -> &'static str {
        "what is agreed on never changes"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            let seen = self.seen.entry((node.index, node.life)).or_default();
            let first = node.entries.first().map(|entry| entry.id);
            if first.is_none_or(|first| seen.get(&first.index) != Some(&first)) {
                seen.clear(); // the end was taken back, or a snapshot has come in its place
            }
            seen.extend(node.entries.iter().map(|entry| (entry.id.index, entry.id)));
            let Some(applied) = node.standing.applied else { continue };
            let left = seen.split_off(&(applied.index + 1));
            let agreed = std::mem::replace(seen, left);
            for (index, id) in agreed.into_iter().chain([(applied.index, applied)]) {
                let known = *self.applied.entry(index).or_insert(id);
                if known != id {
                    return Err(format!("node {} has applied {id:?} where others have applied {known:?}", node.index));
                }
            }
        }
        Ok(())
    }
}
