//! Nothing is there that nobody wrote, or that its writer was told is not there; nothing counts twice.

use super::{Invariant, News, Sight};
use crate::history::{Ended, Write, is_clients, secret_number};

#[derive(Debug)]
pub(super) struct Phantom {
    /// Whether clients alone change the state: then no more can have changed than they asked for.
    pub(super) counts: bool,
}

impl Invariant for Phantom {
    fn name(&self) -> &'static str {
        "no phantom, and nothing is applied twice"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        let attempts = &sight.history.attempts;
        // The first change founds the cluster.
        let possible = 1 + attempts.iter().filter(|attempt| attempt.ended != Ended::Refused).count();
        for node in sight.nodes.iter().filter(|_| self.counts) {
            let version = node.view.version().0;
            if version > u64::try_from(possible).unwrap() {
                return Err(format!("node {} counts {version} changes, and {possible} were asked for", node.index));
            }
        }
        for news in sight.news {
            if let News::WrongPayload(what) = news {
                return Err(what.clone());
            }
        }
        Ok(())
    }

    fn check_end(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        let attempts = &sight.history.attempts;
        for node in sight.nodes {
            for secret in node.view.secrets().filter(|secret| is_clients(&secret.spec.name)) {
                let (number, version) = (secret_number(&secret.id), secret.version.0);
                let is_it = |write: Write| match write {
                    Write::Create(secret) => (secret, 1) == (number, version),
                    Write::Update(secret, to) => (secret, to) == (number, version),
                    Write::Remove(_) | Write::Describe => false,
                };
                if !attempts.iter().any(|attempt| attempt.ended != Ended::Refused && is_it(attempt.write)) {
                    return Err(format!(
                        "node {} has version {version} of secret {number}, which nobody made",
                        node.index
                    ));
                }
            }
        }
        Ok(())
    }
}
