//! The secret-fs of a simulated node: it opens grants as the real one does, and counts what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use secretd_core::node::SecretsStatus;
use secretd_core::seam::secret_mount::{Mounted, SecretMount, SecretMountError, TaskSecrets};
use secretd_proto::fs::{Grant, Refusal, Target};
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_sealing::binding::{GrantBinding, PayloadBinding};
use secretd_sealing::envelope::open_grant;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::payload::open_into;
use tokio::sync::watch;

/// What a grant gives: a file of a task.
type Place = (TaskId, SecretId, String);

/// A secret-fs. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Mount {
    key: Arc<PrivateKey>,
    state: Arc<Mutex<State>>,
    status: Arc<watch::Sender<SecretsStatus>>,
}

#[derive(Debug, Default)]
struct State {
    stored: BTreeMap<(SecretId, u64), Vec<u8>>,
    published: BTreeMap<TaskId, TaskSecrets>,
    /// What is readable: the payload of each version in use.
    opened: BTreeMap<(SecretId, u64), Vec<u8>>,
    /// The newest epoch of each, and which version it gave.
    epochs: BTreeMap<Place, (u64, u64)>,
    /// What never may happen, and did.
    wrong: Vec<String>,
}

impl Mount {
    /// Another run, with a key of its own.
    pub(crate) fn new() -> Self {
        let key = PrivateKey::generate().unwrap();
        let status = SecretsStatus {
            backend: "fuse".to_owned(),
            public_key: key.public().to_bytes().to_vec(),
            ..SecretsStatus::default()
        };
        Self { key: Arc::new(key), state: Arc::default(), status: Arc::new(watch::Sender::new(status)) }
    }

    /// The tasks that may read something, and what: secret, version and bytes.
    pub(crate) fn readable(&self) -> BTreeMap<TaskId, Vec<(SecretId, u64, Vec<u8>)>> {
        let state = self.state.lock();
        let of = |secrets: &TaskSecrets| {
            let read = |grant: &Grant| {
                let payload = state.opened.get(&(grant.secret, grant.version)).cloned().unwrap_or_default();
                (grant.secret, grant.version, payload)
            };
            secrets.grants.iter().map(read).collect()
        };
        state.published.iter().map(|(task, secrets)| (*task, of(secrets))).collect()
    }

    /// The secrets of which there are ciphertexts, or plaintext.
    pub(crate) fn kept(&self) -> BTreeSet<SecretId> {
        let state = self.state.lock();
        state.stored.keys().chain(state.opened.keys()).map(|(secret, _)| *secret).collect()
    }

    pub(crate) fn wrong(&self) -> Option<String> {
        self.state.lock().wrong.first().cloned()
    }

    fn open(&self, task: TaskId, cluster: ClusterId, node: NodeId, grants: &[Grant]) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let mut opened = Vec::new();
        for grant in grants {
            let place = (task, grant.secret, target(&grant.target));
            if state.epochs.get(&place).is_some_and(|(newest, _)| grant.epoch < *newest) {
                return Err(Refusal::OldEpoch(grant.secret, grant.epoch));
            }
            let version = (grant.secret, grant.version);
            let payload = PayloadBinding {
                cluster,
                secret: grant.secret,
                version: grant.version,
                name: grant.name.clone(),
                length: grant.length,
            };
            let binding = GrantBinding { payload: payload.clone(), node, task, epoch: grant.epoch };
            let broken = |_| Refusal::BrokenSeal(grant.secret, grant.version);
            let dek = open_grant(&grant.wrapped_dek, &self.key, &binding).map_err(broken)?;
            if let Some(ciphertext) = state.stored.get(&version) {
                let mut plaintext = vec![0; grant.length as usize];
                open_into(&dek, &payload, ciphertext, &mut plaintext).map_err(broken)?;
                opened.push((version, plaintext));
            } else if !state.opened.contains_key(&version) {
                return Err(Refusal::NotStored(grant.secret, grant.version));
            }
        }
        for grant in grants {
            state.stored.remove(&(grant.secret, grant.version));
            let place = (task, grant.secret, target(&grant.target));
            let newest = (grant.epoch, grant.version);
            let known = state.epochs.insert(place, newest).unwrap_or(newest);
            if known.0 == newest.0 && known.1 != newest.1 {
                state.wrong.push(format!("task {task} was granted versions {} and {} in one epoch", known.1, newest.1));
            }
        }
        state.opened.extend(opened);
        Ok(())
    }
}

impl State {
    /// Wipes what nobody may read any more.
    fn wipe(&mut self) {
        let used: BTreeSet<(SecretId, u64)> = self
            .published
            .values()
            .flat_map(|secrets| &secrets.grants)
            .map(|grant| (grant.secret, grant.version))
            .collect();
        self.opened.retain(|version, _| used.contains(version));
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Relative(path) | Target::Absolute(path) => path.clone(),
    }
}

#[async_trait]
impl SecretMount for Mount {
    fn status(&self) -> watch::Receiver<SecretsStatus> {
        self.status.subscribe()
    }

    async fn store(&self, secret: SecretId, version: u64, ciphertext: Vec<u8>) -> Result<(), SecretMountError> {
        self.state.lock().stored.insert((secret, version), ciphertext);
        Ok(())
    }

    async fn forget(&self, secret: SecretId, version: u64) -> Result<(), SecretMountError> {
        self.state.lock().stored.remove(&(secret, version));
        Ok(())
    }

    async fn publish(&self, task: &TaskId, secrets: TaskSecrets) -> Result<(), SecretMountError> {
        self.open(*task, secrets.cluster, secrets.node, &secrets.grants)?;
        let mut state = self.state.lock();
        state.published.insert(*task, secrets);
        state.wipe();
        Ok(())
    }

    async fn update(&self, task: &TaskId, grants: Vec<Grant>) -> Result<Mounted, SecretMountError> {
        let known = self.state.lock().published.get(task).cloned().ok_or(Refusal::UnknownTask(*task))?;
        self.open(*task, known.cluster, known.node, &grants)?;
        let mut state = self.state.lock();
        if let Some(secrets) = state.published.get_mut(task) {
            secrets.grants.retain(|known| grants.iter().any(|grant| grant.target == known.target));
            for grant in grants {
                for known in secrets.grants.iter_mut().filter(|known| known.target == grant.target) {
                    *known = grant.clone();
                }
            }
        }
        state.wipe();
        Ok(Mounted::Served)
    }

    async fn remount(&self, _: &TaskId) -> Result<(), SecretMountError> {
        Ok(())
    }

    async fn retract(&self, task: &TaskId) -> Result<(), SecretMountError> {
        let mut state = self.state.lock();
        state.published.remove(task);
        state.wipe();
        Ok(())
    }
}
