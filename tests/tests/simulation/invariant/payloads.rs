//! Every payload that the state refers to is on the disk of its node.

use std::collections::BTreeMap;

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct Payloads(BTreeMap<usize, (u64, u64)>);

impl Invariant for Payloads {
    fn name(&self) -> &'static str {
        "no payload is missing"
    }

    /// Looks at a process that is new, and at one that has a new snapshot: there payloads come and go.
    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            let seen = (node.life, node.standing.snapshot);
            if self.0.insert(node.index, seen) != Some(seen) {
                missing(node)?;
            }
        }
        Ok(())
    }

    fn check_end(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        sight.nodes.iter().try_for_each(missing)
    }
}

fn missing(node: &super::NodeSight) -> Result<(), String> {
    match node.inspection.missing_payload() {
        Ok(None) => Ok(()),
        Ok(Some(key)) => Err(format!("node {} has no {key}", node.index)),
        Err(error) => Err(format!("node {} cannot read a payload: {error}", node.index)),
    }
}
