//! The node's secret mounts: what the agent asks secret-fs for.
//!
//! Ordering: `store` before the `publish` or `update` that names the version; `publish` before [`Runtime::prepare`] of
//! the task, whose shim attaches the mount. All calls are idempotent. A call that is cancelled may have happened.
//!
//! When secret-fs restarts, [`SecretMount::status`] changes its public key and everything stored and published is
//! gone: the agent gets all grants anew, wrapped to the new key, publishes them and calls `remount` for each task.
//!
//! [`Runtime::prepare`]: super::runtime::Runtime::prepare

use async_trait::async_trait;
use secretd_proto::fs::{Grant, Refusal};
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use tokio::sync::watch;

use crate::node::SecretsStatus;

/// What a task may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSecrets {
    /// Bound by the seals.
    pub cluster: ClusterId,
    /// Bound by the grants.
    pub node: NodeId,
    /// One for each file.
    pub grants: Vec<Grant>,
}

/// Why secret-fs did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretMountError {
    /// secret-fs is not there at the moment; it is being restarted.
    #[error("secret-fs is not running; it is being restarted")]
    Unreachable,
    /// secret-fs refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The task's shim could not wake the watchers or replace the mount.
    #[error("{0}")]
    Shim(String),
}

impl SecretMountError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable)
    }
}

/// Whether the container's mount is one of the present run of secret-fs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounted {
    /// It is.
    Served,
    /// Nobody serves it: it is to be replaced.
    Not,
}

/// The secret mounts of this node.
#[async_trait]
pub trait SecretMount: Send + Sync + std::fmt::Debug {
    /// How secrets are protected here, with the key of the present run of secret-fs (empty while there is none).
    fn status(&self) -> watch::Receiver<SecretsStatus>;
    /// Hands over the ciphertext of one version.
    async fn store(&self, secret: SecretId, version: u64, ciphertext: Vec<u8>) -> Result<(), SecretMountError>;
    /// Drops a version that no task uses any more.
    async fn forget(&self, secret: SecretId, version: u64) -> Result<(), SecretMountError>;
    /// Makes the task's secrets, all or none.
    async fn publish(&self, task: &TaskId, secrets: TaskSecrets) -> Result<(), SecretMountError>;
    /// Gives existing files a new version, withdraws the files that are not among `grants` (from open files too), and
    /// wakes the watchers in the container. Made again after an error, it does what is left.
    async fn update(&self, task: &TaskId, grants: Vec<Grant>) -> Result<Mounted, SecretMountError>;
    /// After a restart of secret-fs and `publish`: replaces the mount of a running container in place.
    async fn remount(&self, task: &TaskId) -> Result<(), SecretMountError>;
    /// Ends all reading and wipes.
    async fn retract(&self, task: &TaskId) -> Result<(), SecretMountError>;
}
