//! At most one leader for each term and leader id, and in the log of what is agreed on, leadership only goes forward.
//!
//! In openraft a term may have a second leader, of a greater id, as two terms have in the textbook: who has voted for the
//! lesser one may vote for the greater one. So what is one in raft is the pair, and the pairs are ordered.

use std::collections::BTreeMap;

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct LeaderIds {
    /// Which node led as this member.
    leaders: BTreeMap<(u64, u64), usize>,
}

impl Invariant for LeaderIds {
    fn name(&self) -> &'static str {
        "one leader for each leader id, and they are ordered"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            if node.standing.leads {
                let id = (node.standing.term, node.standing.member);
                let other = *self.leaders.entry(id).or_insert(node.index);
                if other != node.index {
                    return Err(format!("nodes {other} and {} both led as {id:?}", node.index));
                }
            }
            for (one, next) in node.entries.iter().zip(node.entries.iter().skip(1)) {
                if (next.id.term, next.id.leader) < (one.id.term, one.id.leader) || next.id.index != one.id.index + 1 {
                    return Err(format!("the log of node {} goes from {:?} to {:?}", node.index, one.id, next.id));
                }
            }
        }
        Ok(())
    }
}
