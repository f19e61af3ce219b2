//! Named volumes of this node: directories that outlive the containers that use them.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use secretd_proto::id::TaskId;

use crate::time::Timestamp;

/// A volume as the node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name; see [`is_volume_name`].
    pub name: String,
    /// What it was made with.
    pub labels: BTreeMap<String, String>,
    /// Its directory on the node.
    pub mountpoint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The tasks whose containers use it.
    pub used_by: Vec<TaskId>,
}

/// Why a volume could not be made or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// There is none of that name on this node.
    #[error("no such volume: {0}")]
    NotFound(String),
    /// The name cannot be one.
    #[error("invalid volume name {0}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 255 characters")]
    Name(String),
    /// A container uses it.
    #[error("volume {volume} is in use by task {task}: remove the service, or take the mount from it")]
    InUse {
        /// The volume.
        volume: String,
        /// One of the tasks.
        task: TaskId,
    },
    /// The node's own disk.
    #[error("{step}: {reason}")]
    Node {
        /// What was done.
        step: String,
        /// The system's words.
        reason: String,
    },
}

/// The volumes of this node.
#[async_trait]
pub trait Volumes: fmt::Debug + Send + Sync {
    /// Makes a volume; the one that is there already is left as it is.
    ///
    /// # Errors
    /// See [`VolumeError`].
    async fn create(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Volume, VolumeError>;

    /// All volumes in the order of their names, those of single tasks too.
    ///
    /// # Errors
    /// When the disk fails.
    async fn list(&self) -> Result<Vec<Volume>, VolumeError>;

    /// Removes a volume and what is in it.
    ///
    /// # Errors
    /// When there is none, or a container uses it.
    async fn remove(&self, name: &str) -> Result<(), VolumeError>;
}

/// Whether a volume can have this name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes.
pub fn is_volume_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}
