//! The state that a node shows never goes back while its process lives, and no version is given to two writes.

use std::collections::BTreeMap;

use secretd_core::time::Version;

use super::{Invariant, News, Sight};
use crate::history::{Attempt, Ended, Write};

#[derive(Debug, Default)]
pub(super) struct Versions {
    shown: BTreeMap<usize, (u64, Version)>,
    given: BTreeMap<Version, Write>,
}

impl Invariant for Versions {
    fn name(&self) -> &'static str {
        "versions only grow, and each is given once"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            let now = (node.life, node.view.version());
            if let Some((life, version)) = self.shown.insert(node.index, now).filter(|before| before.0 == now.0)
                && version > now.1
            {
                return Err(format!("node {} went from {version:?} to {:?} in life {life}", node.index, now.1));
            }
        }
        for news in sight.news {
            let News::Acknowledged { attempt: Attempt { write, ended: Ended::Acknowledged(version), .. }, .. } = news
            else {
                continue;
            };
            if let Some(other) = self.given.insert(*version, *write) {
                return Err(format!("{version:?} was given to {other:?} and to {write:?}"));
            }
        }
        Ok(())
    }
}
