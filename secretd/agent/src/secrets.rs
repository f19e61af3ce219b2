//! One task's secrets: what was granted, as secret-fs has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secretd_core::seam::secret_mount::{SecretMount, SecretMountError, TaskSecrets};
use secretd_core::task::Task;
use secretd_proto::fs::{Grant, Refusal, Target};
use secretd_proto::id::NodeId;

use crate::assignment::{GrantTold, SecretPayload, SecretVersion};

/// The ciphertexts that were assigned to this node. Kept as long as they are: secret-fs may ask for them again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Payloads(Arc<Mutex<HashMap<SecretVersion, Arc<SecretPayload>>>>);

impl Payloads {
    pub(crate) fn give(&self, version: SecretVersion, payload: SecretPayload) {
        self.0.lock().insert(version, Arc::new(payload));
    }

    pub(crate) fn take(&self, version: &SecretVersion) {
        self.0.lock().remove(version);
    }

    pub(crate) fn versions(&self) -> Vec<SecretVersion> {
        self.0.lock().keys().copied().collect()
    }

    fn get(&self, version: &SecretVersion) -> Option<Arc<SecretPayload>> {
        self.0.lock().get(version).map(Arc::clone)
    }
}

/// How long a grant that does not open may be one for an earlier run of secret-fs, whose successor is on its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a task's secrets are not as they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Not all of them have been granted yet, or for another run of secret-fs.
    #[error("the task's secrets have not been granted for this run of secret-fs")]
    NotYet,
    /// They never will be.
    #[error("{0}")]
    Refused(String),
}

/// Makes the task's secrets in secret-fs, for a container that is yet to be made.
pub(crate) async fn publish(
    mount: &dyn SecretMount,
    payloads: &Payloads,
    node: NodeId,
    task: &Task,
    told: &[GrantTold],
) -> Result<(), ApplyError> {
    let secrets = store(mount, payloads, node, task, told).await?;
    mount.publish(&task.id, secrets).await.map_err(refused)
}

/// Brings the secrets of a container that is there to what is granted now: new versions, or all of them where secret-fs
/// has been restarted.
pub(crate) async fn update(
    mount: &dyn SecretMount,
    payloads: &Payloads,
    node: NodeId,
    task: &Task,
    told: &[GrantTold],
) -> Result<(), ApplyError> {
    let secrets = store(mount, payloads, node, task, told).await?;
    match mount.update(&task.id, secrets.grants.clone()).await {
        Err(SecretMountError::Refused(Refusal::UnknownTask(_))) => {
            mount.publish(&task.id, secrets).await.map_err(refused)?;
            mount.remount(&task.id).await.map_err(refused)
        }
        answer => answer.map(drop).map_err(refused),
    }
}

async fn store(
    mount: &dyn SecretMount,
    payloads: &Payloads,
    node: NodeId,
    task: &Task,
    told: &[GrantTold],
) -> Result<TaskSecrets, ApplyError> {
    let mut grants = Vec::new();
    let mut cluster = None;
    for (index, wanted) in task.spec.container.secrets.iter().enumerate() {
        let matches = |told: &&GrantTold| told.secret == wanted.secret && told.target == wanted.target;
        let told = told.iter().find(matches).ok_or(ApplyError::NotYet)?;
        let payload = payloads.get(&(told.secret, told.version)).ok_or(ApplyError::NotYet)?;
        mount.store(told.secret, told.version, payload.ciphertext.clone()).await.map_err(refused)?;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let target = Target::parse(&told.target, index).map_err(|error| ApplyError::Refused(error.to_string()))?;
        cluster = Some(told.cluster);
        grants.push(Grant {
            secret: told.secret,
            name: payload.name.clone(),
            version: told.version,
            length: payload.length,
            target,
            uid: told.uid,
            gid: told.gid,
            mode: told.mode,
            epoch: told.epoch,
            wrapped_dek: told.wrapped_dek.clone(),
        });
    }
    Ok(TaskSecrets { cluster: cluster.ok_or(ApplyError::NotYet)?, node, grants })
}

/// A grant that does not open, or is older than one seen, belongs to another run of secret-fs or is overtaken: the right
/// one is on its way.
fn refused(error: SecretMountError) -> ApplyError {
    match error {
        SecretMountError::Unreachable
        | SecretMountError::Refused(Refusal::BrokenSeal(..) | Refusal::OldEpoch(..) | Refusal::NotStored(..)) => {
            ApplyError::NotYet
        }
        SecretMountError::Refused(refusal) => ApplyError::Refused(refusal.to_string()),
        SecretMountError::Shim(message) => ApplyError::Refused(message),
    }
}
