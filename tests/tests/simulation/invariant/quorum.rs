//! What is acknowledged is in the logs of a majority of the voters, on their disks.

use std::collections::BTreeMap;

use secretd_store::simulation::EntryId;

use super::{Invariant, News, NodeSight, Sight};

#[derive(Debug, Default)]
pub(super) struct Quorum {
    checked: BTreeMap<usize, EntryId>,
}

impl Invariant for Quorum {
    fn name(&self) -> &'static str {
        "nothing is acknowledged without a majority"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for news in sight.news {
            let News::Acknowledged { node, .. } = news else { continue };
            let leader = sight.nodes.iter().find(|sight| sight.index == *node);
            let Some(leader) = leader.filter(|leader| leader.standing.leads) else { continue };
            let Some(applied) = leader.standing.applied else { continue };
            if self.checked.insert(*node, applied) == Some(applied) {
                continue;
            }
            let [voters] = leader.standing.voters.as_slice() else { continue }; // a change is under way
            if leader.standing.voters_since > applied.index {
                continue; // it was agreed on by others
            }
            let mut have = 0;
            for voter in voters {
                have += usize::from(has(sight, *voter, applied)?);
            }
            if have <= voters.len() / 2 {
                return Err(format!(
                    "node {node} has acknowledged {applied:?}, which {have} of {} voters have",
                    voters.len()
                ));
            }
        }
        Ok(())
    }
}

fn has(sight: &Sight<'_>, voter: u64, id: EntryId) -> Result<bool, String> {
    if let Some(node) = sight.nodes.iter().find(|node| node.standing.member == voter) {
        return on_disk(node, id);
    }
    let Some(log) = sight.down.get(&voter) else { return Ok(false) };
    // A log that cannot be looked at may have it.
    Ok(log.as_ref().is_none_or(|log| {
        let is_purged = log.first().is_some_and(|first| first.id.index > id.index);
        is_purged || log.iter().any(|entry| entry.id == id)
    }))
}

fn on_disk(node: &NodeSight, id: EntryId) -> Result<bool, String> {
    let failed = |error| format!("the log of node {} cannot be read: {error}", node.index);
    if node.inspection.purged().map_err(failed)? >= id.index || node.standing.snapshot >= id.index {
        return Ok(true);
    }
    Ok(node.inspection.log(id.index).map_err(failed)?.first().is_some_and(|entry| entry.id == id))
}
