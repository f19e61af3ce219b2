//! A secret-fs in memory. It opens nothing: a grant counts as sealed to the present run when its wrapped key is the
//! run's key. It drops a ciphertext with its first use, as the real one does, and keeps what is in use.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use secretd_proto::fs::{Grant, Refusal};
use secretd_proto::id::{SecretId, TaskId};
use tokio::sync::watch;

use crate::node::SecretsStatus;
use crate::seam::secret_mount::{Mounted, SecretMount, SecretMountError, TaskSecrets};

/// A secret-fs in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct FakeSecretMount {
    state: Arc<Mutex<State>>,
    status: Arc<watch::Sender<SecretsStatus>>,
}

#[derive(Debug, Default)]
struct State {
    stored: BTreeSet<(SecretId, u64)>,
    published: BTreeMap<TaskId, TaskSecrets>,
    calls: Vec<Call>,
    failures: VecDeque<(Call, SecretMountError)>,
    /// Tasks whose mount nobody serves.
    lost: BTreeSet<TaskId>,
    is_down: bool,
}

/// What a fake secret-fs was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`SecretMount::store`].
    Store,
    /// [`SecretMount::forget`].
    Forget,
    /// [`SecretMount::publish`].
    Publish,
    /// [`SecretMount::update`].
    Update,
    /// [`SecretMount::remount`].
    Remount,
    /// [`SecretMount::retract`].
    Retract,
}

impl FakeSecretMount {
    /// The first run, with this key.
    pub fn new(key: &[u8]) -> Self {
        let status = SecretsStatus { backend: "fuse".to_owned(), public_key: key.to_vec(), ..SecretsStatus::default() };
        Self { state: Arc::default(), status: Arc::new(watch::Sender::new(status)) }
    }

    /// Nobody serves the task's mount any more, though it is published.
    pub fn lose_mount(&self, task: TaskId) {
        self.state.lock().lost.insert(task);
    }

    /// A new run with a new key: everything stored and published is gone.
    pub fn restart(&self, key: &[u8]) {
        let mut state = self.state.lock();
        state.stored.clear();
        state.published.clear();
        state.is_down = false;
        drop(state);
        self.status.send_modify(|status| status.public_key = key.to_vec());
    }

    /// It cannot be reached until it is restarted or up again; it keeps what it has.
    pub fn set_down(&self, is_down: bool) {
        self.state.lock().is_down = is_down;
    }

    /// The next such call fails.
    pub fn fail_next(&self, call: Call, error: SecretMountError) {
        self.state.lock().failures.push_back((call, error));
    }

    /// What the task may read.
    pub fn published(&self, task: &TaskId) -> Option<TaskSecrets> {
        self.state.lock().published.get(task).cloned()
    }

    /// What was asked for, in order; failed calls too.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    fn called(&self, call: Call) -> Result<(), SecretMountError> {
        let mut state = self.state.lock();
        state.calls.push(call);
        if state.is_down {
            return Err(SecretMountError::Unreachable);
        }
        match state.failures.iter().position(|(of, _)| *of == call).and_then(|index| state.failures.remove(index)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Checks grants as the real one does, and drops the ciphertexts that they open.
    fn open(&self, state: &mut State, grants: &[Grant]) -> Result<(), Refusal> {
        let in_use: BTreeSet<(SecretId, u64)> = state
            .published
            .values()
            .flat_map(|secrets| &secrets.grants)
            .map(|grant| (grant.secret, grant.version))
            .collect();
        for grant in grants {
            let version = (grant.secret, grant.version);
            if grant.wrapped_dek != self.status.borrow().public_key {
                return Err(Refusal::BrokenSeal(grant.secret, grant.version));
            }
            if !state.stored.contains(&version) && !in_use.contains(&version) {
                return Err(Refusal::NotStored(grant.secret, grant.version));
            }
        }
        for grant in grants {
            state.stored.remove(&(grant.secret, grant.version));
        }
        Ok(())
    }
}

#[async_trait]
impl SecretMount for FakeSecretMount {
    fn status(&self) -> watch::Receiver<SecretsStatus> {
        self.status.subscribe()
    }

    async fn store(&self, secret: SecretId, version: u64, _ciphertext: Vec<u8>) -> Result<(), SecretMountError> {
        self.called(Call::Store)?;
        self.state.lock().stored.insert((secret, version));
        Ok(())
    }

    async fn forget(&self, secret: SecretId, version: u64) -> Result<(), SecretMountError> {
        self.called(Call::Forget)?;
        self.state.lock().stored.remove(&(secret, version));
        Ok(())
    }

    async fn publish(&self, task: &TaskId, secrets: TaskSecrets) -> Result<(), SecretMountError> {
        self.called(Call::Publish)?;
        let mut state = self.state.lock();
        self.open(&mut state, &secrets.grants)?;
        state.published.insert(*task, secrets);
        Ok(())
    }

    async fn update(&self, task: &TaskId, grants: Vec<Grant>) -> Result<Mounted, SecretMountError> {
        self.called(Call::Update)?;
        let mut state = self.state.lock();
        if !state.published.contains_key(task) {
            return Err(Refusal::UnknownTask(*task).into());
        }
        self.open(&mut state, &grants)?;
        if let Some(secrets) = state.published.get_mut(task) {
            secrets.grants.retain(|known| grants.iter().any(|grant| grant.target == known.target));
            for grant in grants {
                for known in secrets.grants.iter_mut().filter(|known| known.target == grant.target) {
                    *known = grant.clone();
                }
            }
        }
        Ok(if state.lost.contains(task) { Mounted::Not } else { Mounted::Served })
    }

    async fn remount(&self, task: &TaskId) -> Result<(), SecretMountError> {
        self.called(Call::Remount)?;
        self.state.lock().lost.remove(task);
        Ok(())
    }

    async fn retract(&self, task: &TaskId) -> Result<(), SecretMountError> {
        self.called(Call::Retract)?;
        self.state.lock().published.remove(task);
        Ok(())
    }
}
