//! A node can read the secrets of tasks that it was assigned, with the value that was sealed, and nothing else. That
//! what was revoked is wiped in the end is part of what a healed cluster must come to.

use std::collections::{BTreeMap, BTreeSet};

use secretd_proto::id::{NodeId, SecretId, TaskId};

use super::{Invariant, Sight};
use crate::operator::value;
use crate::part::Part;

#[derive(Debug, Default)]
pub(super) struct Secrecy {
    /// What each task was ever granted, and where.
    granted: BTreeMap<TaskId, (NodeId, BTreeSet<SecretId>)>,
    names: BTreeMap<SecretId, String>,
}

impl Invariant for Secrecy {
    fn name(&self) -> &'static str {
        "secrets are only where a task has them"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for node in sight.nodes {
            for task in node.view.tasks() {
                let Some(assigned) = task.node_id else { continue };
                let (_, secrets) = self.granted.entry(task.id).or_insert((assigned, BTreeSet::new()));
                secrets.extend(task.spec.container.secrets.iter().map(|grant| grant.secret));
            }
            for secret in node.view.secrets() {
                self.names.entry(secret.id).or_insert_with(|| secret.spec.name.to_string());
            }
        }
        for worker in sight.workers {
            let Part::Worker { mount, .. } = &worker.part else { continue };
            for (task, files) in mount.readable() {
                let Some((node, secrets)) = self.granted.get(&task) else { continue }; // its manager is down by now
                for (secret, version, bytes) in files {
                    if *node != worker.id || !secrets.contains(&secret) {
                        return Err(format!("node {} reads secret {secret} for task {task}", worker.index));
                    }
                    let expected = self.names.get(&secret).map(|name| value(name, version));
                    if expected.is_some_and(|expected| expected != bytes) {
                        return Err(format!("node {} reads other bytes of secret {secret}", worker.index));
                    }
                }
            }
        }
        Ok(())
    }
}
