//! No nonce seals two records under one key.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Invariant, NodeSight, Sight};

/// Where the nonces are in a sealed record: behind the version of the format and the number of the key.
const NONCES: std::ops::Range<usize> = 5..29;

#[derive(Debug, Default)]
pub(super) struct Nonces {
    /// By node, which stands for its key, and nonces: what they sealed.
    used: BTreeMap<(usize, Vec<u8>), u64>,
    seen: BTreeMap<usize, (u64, u64)>,
}

impl Nonces {
    fn look(&mut self, node: &NodeSight) -> Result<(), String> {
        let records = node.inspection.sealed_records();
        for (key, sealed) in records.map_err(|error| format!("the records cannot be read: {error}"))? {
            let mut hasher = DefaultHasher::new();
            (&key, &sealed).hash(&mut hasher);
            let digest = hasher.finish();
            let nonces = sealed.get(NONCES).unwrap_or_default().to_vec();
            let known = *self.used.entry((node.index, nonces)).or_insert(digest);
            if known != digest {
                return Err(format!("node {} has sealed two records with one nonce", node.index));
            }
        }
        Ok(())
    }
}

impl Invariant for Nonces {
    fn name(&self) -> &'static str {
        "no nonce is used twice"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            let seen = (node.life, node.standing.snapshot);
            if self.seen.insert(node.index, seen) != Some(seen) {
                self.look(node)?;
            }
        }
        Ok(())
    }

    fn check_end(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        sight.nodes.iter().try_for_each(|node| self.look(node))
    }
}
