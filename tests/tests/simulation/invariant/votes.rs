//! A vote that was told of is still there after a crash, or a later one.

use std::collections::BTreeMap;

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct Votes(BTreeMap<usize, u64>);

impl Invariant for Votes {
    fn name(&self) -> &'static str {
        "votes never go back"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            if self.0.insert(node.index, node.life) == Some(node.life) {
                continue;
            }
            let vote = node.inspection.vote().map_err(|error| format!("a vote cannot be read: {error}"))?;
            sight.net.promises(|promises| promises.found(node.standing.member, vote));
        }
        sight.net.promises(|promises| promises.broken().map_or(Ok(()), |broken| Err(broken.to_owned())))
    }
}
