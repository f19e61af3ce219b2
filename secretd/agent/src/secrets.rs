//! One task's secrets: what was granted, as secret-fs has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secretd_core::seam::secret_mount::{Mounted, SecretMount, SecretMountError, TaskSecrets};
use secretd_core::task::Task;
use secretd_proto::fs::{Grant, ParseTargetError, Refusal, Target};
use secretd_proto::id::NodeId;

use crate::assignment::{GrantTold, SecretPayload, SecretVersion};

/// The ciphertexts that were assigned to this node. Kept as long as they are: a new run of secret-fs, and the next task
/// after the last user's end, need them again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Payloads(Arc<Mutex<HashMap<SecretVersion, Held>>>);

#[derive(Debug)]
struct Held {
    payload: Arc<SecretPayload>,
    /// Whether secret-fs was given it. It may have dropped it since; it says so then.
    handed_over: bool,
}

impl Payloads {
    pub(crate) fn give(&self, version: SecretVersion, payload: SecretPayload) {
        self.0.lock().insert(version, Held { payload: Arc::new(payload), handed_over: false });
    }

    pub(crate) fn take(&self, version: &SecretVersion) {
        self.0.lock().remove(version);
    }

    pub(crate) fn versions(&self) -> Vec<SecretVersion> {
        self.0.lock().keys().copied().collect()
    }

    fn get(&self, version: &SecretVersion) -> Option<Arc<SecretPayload>> {
        self.0.lock().get(version).map(|held| Arc::clone(&held.payload))
    }

    fn is_handed_over(&self, version: &SecretVersion) -> bool {
        self.0.lock().get(version).is_some_and(|held| held.handed_over)
    }

    fn set_handed_over(&self, version: &SecretVersion, handed_over: bool) {
        if let Some(held) = self.0.lock().get_mut(version) {
            held.handed_over = handed_over;
        }
    }
}

/// How long a grant that does not open may be one for an earlier run of secret-fs, whose successor is on its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a task's secrets are not as they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Not all of them have been granted yet.
    #[error("the task's secrets have not been granted for this run of secret-fs")]
    NotGranted,
    /// secret-fs or the shim did not do it.
    #[error(transparent)]
    Mount(#[from] SecretMountError),
    /// A target is none.
    #[error(transparent)]
    Target(#[from] ParseTargetError),
}

impl ApplyError {
    /// Who has failed, without any name.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::NotGranted => "grant",
            Self::Target(_) => "target",
            Self::Mount(SecretMountError::Unreachable) => "secret-fs is not reached",
            Self::Mount(SecretMountError::Refused(_)) => "secret-fs refuses",
            Self::Mount(SecretMountError::Shim(_)) => "shim",
        }
    }

    /// Whether it may be done later. A grant that does not open, or is older than one seen, belongs to another run of
    /// secret-fs or is overtaken: the right one is on its way.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NotGranted => true,
            Self::Mount(SecretMountError::Refused(refusal)) => {
                matches!(refusal, Refusal::BrokenSeal(..) | Refusal::OldEpoch(..) | Refusal::NotStored(..))
            }
            Self::Mount(error) => error.is_transient(),
            Self::Target(_) => false,
        }
    }
}

/// One task's secrets, between what was granted and secret-fs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applying<'a> {
    pub(crate) mount: &'a dyn SecretMount,
    pub(crate) payloads: &'a Payloads,
    pub(crate) node: NodeId,
    pub(crate) task: &'a Task,
    pub(crate) told: &'a [GrantTold],
}

impl Applying<'_> {
    /// Makes the secrets in secret-fs, for a container that is yet to be made.
    pub(crate) async fn publish(self) -> Result<(), ApplyError> {
        let grants = self.grants()?;
        self.hand_over(&grants).await?;
        self.ask(Ask::Publish, &grants).await.map(drop)
    }

    /// Brings the secrets of a container that is there to what is granted now: new versions, fewer of them, or all of
    /// them where secret-fs has been restarted. `mounted` keeps what is left to do when it fails halfway.
    pub(crate) async fn update(self, mounted: &mut Mounted) -> Result<(), ApplyError> {
        let grants = self.grants()?;
        self.hand_over(&grants).await?;
        match self.ask(Ask::Update, &grants).await {
            Err(ApplyError::Mount(SecretMountError::Refused(Refusal::UnknownTask(_)))) => {
                if grants.is_empty() {
                    return Ok(()); // nothing is left to be read, and nothing is granted
                }
                self.ask(Ask::Publish, &grants).await?;
                *mounted = Mounted::Not;
            }
            answer => {
                if answer? == Mounted::Not {
                    *mounted = Mounted::Not;
                }
            }
        }
        if *mounted == Mounted::Not {
            self.mount.remount(&self.task.id).await?;
            *mounted = Mounted::Served;
        }
        Ok(())
    }

    /// What secret-fs is to be told: all of the task's secrets, or an error while one is not granted.
    fn grants(&self) -> Result<Vec<Grant>, ApplyError> {
        let mut grants = Vec::new();
        for wanted in &self.task.spec.container.secrets {
            let told = self.told.iter().find(|told| told.is_for(wanted)).ok_or(ApplyError::NotGranted)?;
            let payload = self.payloads.get(&(told.secret, told.version)).ok_or(ApplyError::NotGranted)?;
            grants.push(Grant {
                secret: told.secret,
                name: payload.name.clone(),
                version: told.version,
                length: payload.length,
                target: Target::parse(&told.target)?,
                uid: told.uid,
                gid: told.gid,
                mode: told.mode,
                epoch: told.epoch,
                wrapped_dek: told.wrapped_dek.clone(),
            });
        }
        Ok(grants)
    }

    async fn hand_over(&self, grants: &[Grant]) -> Result<(), ApplyError> {
        for grant in grants {
            let version = (grant.secret, grant.version);
            if !self.payloads.is_handed_over(&version) {
                self.store(version).await?;
            }
        }
        Ok(())
    }

    async fn store(&self, version: SecretVersion) -> Result<(), ApplyError> {
        let payload = self.payloads.get(&version).ok_or(ApplyError::NotGranted)?;
        self.mount.store(version.0, version.1, payload.ciphertext.clone()).await?;
        self.payloads.set_handed_over(&version, true);
        Ok(())
    }

    /// secret-fs drops what nobody uses, and all of it when it restarts: it is given again what it says it lacks.
    async fn ask(&self, ask: Ask, grants: &[Grant]) -> Result<Mounted, ApplyError> {
        for _ in grants {
            match self.ask_once(ask, grants).await {
                Err(ApplyError::Mount(SecretMountError::Refused(Refusal::NotStored(secret, version)))) => {
                    self.payloads.set_handed_over(&(secret, version), false);
                    self.store((secret, version)).await?;
                }
                answer => return answer,
            }
        }
        self.ask_once(ask, grants).await
    }

    async fn ask_once(&self, ask: Ask, grants: &[Grant]) -> Result<Mounted, ApplyError> {
        let (task, grants) = (&self.task.id, grants.to_vec());
        match ask {
            Ask::Publish => {
                let cluster = self.told.first().ok_or(ApplyError::NotGranted)?.cluster;
                self.mount.publish(task, TaskSecrets { cluster, node: self.node, grants }).await?;
                Ok(Mounted::Not)
            }
            Ask::Update => Ok(self.mount.update(task, grants).await?),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Publish,
    Update,
}
