//! Two logs that have an entry of one name have the same entry there, and the same before it.

use std::collections::BTreeMap;

use secretd_store::simulation::EntryId;

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    contents: BTreeMap<EntryId, u64>,
    before: BTreeMap<EntryId, EntryId>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "logs match"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            let mut before: Option<EntryId> = None;
            for entry in &node.entries {
                let content = *self.contents.entry(entry.id).or_insert(entry.digest);
                if content != entry.digest {
                    return Err(format!("node {} has another entry {:?} than others had", node.index, entry.id));
                }
                if let Some(before) = before {
                    let known = *self.before.entry(entry.id).or_insert(before);
                    if known != before {
                        let id = entry.id;
                        return Err(format!("node {} has {before:?} before {id:?}, others had {known:?}", node.index));
                    }
                }
                before = Some(entry.id);
            }
        }
        Ok(())
    }
}
