//! What was acknowledged is never lost: the healed cluster has it on every node, and nothing that was removed.

use super::{Invariant, Sight};
use crate::history::{secret_id, secret_number};

#[derive(Debug, Default)]
pub(super) struct Durable;

impl Invariant for Durable {
    fn name(&self) -> &'static str {
        "acknowledged writes are never lost"
    }

    fn check(&mut self, _: &Sight<'_>) -> Result<(), String> {
        Ok(())
    }

    fn check_end(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        let (acknowledged, removed) = (sight.history.acknowledged(), sight.history.removed());
        for node in sight.nodes {
            for (secret, version) in &acknowledged {
                let found = node.view.secret(&secret_id(*secret)).map(|secret| secret.version.0);
                if found.is_none_or(|found| found < *version) {
                    return Err(format!(
                        "version {version} of secret {secret} was acknowledged, node {} has {found:?}",
                        node.index
                    ));
                }
            }
            if let Some(back) = node.view.secrets().find(|secret| removed.contains(&secret_number(&secret.id))) {
                return Err(format!(
                    "secret {} was removed and is back on node {}",
                    secret_number(&back.id),
                    node.index
                ));
            }
        }
        Ok(())
    }
}
