//! Nodes, and the cluster that they form.

use std::collections::BTreeMap;

use secretd_proto::id::{ClusterId, NodeId};

use crate::time::Meta;

/// A node as the cluster records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// When, and as which accepted change.
    pub meta: Meta,
    /// Labels that operators gave.
    pub labels: BTreeMap<String, String>,
    /// Whether it takes tasks.
    pub availability: Availability,
    /// Whether it is a manager.
    pub manager: bool,
    /// Whether its agent is connected.
    pub state: NodeState,
    /// Why the state is what it is.
    pub message: String,
    /// Where other nodes reach it: `host:port` for a manager, the host alone for a worker.
    pub address: String,
    /// What the node says of itself.
    pub description: NodeDescription,
}

/// Whether a node takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Active,
    /// It keeps those it has.
    Pause,
    /// It gives those it has away.
    Drain,
}

/// Whether a node's agent is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Not known yet.
    Unknown,
    /// It is.
    Ready,
    /// It has missed its heartbeats.
    Down,
    /// It has said good-bye.
    Disconnected,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeDescription {
    /// The kernel's host name.
    pub hostname: String,
    /// `linux`.
    pub os: String,
    /// Go's word: `amd64`, `arm64`.
    pub architecture: String,
    /// Of secretd.
    pub engine_version: String,
    /// The kernel's release.
    pub kernel: String,
    /// Processors, in billionths.
    pub nano_cpus: i64,
    /// Memory, in bytes.
    pub memory_bytes: i64,
    /// Labels from the node's own configuration.
    pub engine_labels: BTreeMap<String, String>,
    /// How the node protects secrets.
    pub secrets: SecretsStatus,
    /// `v1`, `v2` or `hybrid`.
    pub cgroup: String,
}

/// How a node protects secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretsStatus {
    /// `fuse`, `tmpfs` or `ramfs`.
    pub backend: String,
    /// Why it is that one.
    pub backend_reason: String,
    /// `memfd_secret`, `mlock` or `unlocked`.
    pub memory: String,
    /// X25519 key of this run of secret-fs; empty while there is none.
    pub public_key: Vec<u8>,
    /// What is in force in secret-fs.
    pub sandbox: Vec<String>,
    /// One line each: what is missing and what follows.
    pub weaknesses: Vec<String>,
    /// Managers: where the key-encryption key comes from.
    pub kek: String,
    /// Managers: whether a stolen disk is useless.
    pub kek_secure: bool,
}

/// The cluster's own record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// When, and as which accepted change.
    pub meta: Meta,
    /// Public X25519 key to which clients wrap data keys.
    pub sealing_key: [u8; 32],
    /// Ended tasks that are kept for each slot.
    pub task_history_limit: u32,
}
