//! Nodes, and the cluster that they form.

use std::collections::BTreeMap;
use std::time::Duration;

use secretd_proto::id::{ClusterId, NodeId};

use crate::time::{Meta, Timestamp, Version};

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
    /// `meta.version` at which labels, availability or role last changed: what a node says of itself changes more often.
    pub spec_version: Version,
    /// The certificate that it has shown last; `None` before its first session.
    pub certificate: Option<NodeCertificate>,
}

/// What is remembered of a node's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCertificate {
    /// SHA-256 of the root certificate that has made it.
    pub issuer: [u8; 32],
    /// SHA-256 of itself.
    pub fingerprint: [u8; 32],
    /// Up to when it counts.
    pub not_after: Timestamp,
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
    /// Not known yet, or not to the manager that leads now.
    Unknown,
    /// It is.
    Ready,
    /// It has missed its heartbeats.
    Down,
    /// Its connection has ended, and its heartbeats are not overdue yet.
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
    /// Why it is not what it is to be; empty when all is well.
    pub fault: String,
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
    /// When the key was made that seals the node's records, in seconds since 1970.
    pub data_key_made_at: i64,
    /// Whether records are left that are sealed under an older one.
    pub data_key_resealing: bool,
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
    /// What operators can change.
    pub spec: ClusterSpec,
    /// Root certificates that count (X.509, DER). The first one's key makes certificates; there is another while the
    /// authority changes.
    pub roots: Vec<Vec<u8>>,
    /// The change of the authority that is under way.
    pub rotation: Option<RootRotation>,
    /// Roots that count no more, the newest last: nodes that were away may have their certificates renewed, and nothing else.
    pub retired: Vec<RetiredRoot>,
    /// Higher after a restore, or after one manager went on alone: both go back on purpose, and what nodes knew of a lower
    /// epoch counts no more.
    pub epoch: u64,
}

/// The first root takes the place of the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRotation {
    /// The new root's certificate, signed by the old one (X.509, DER).
    pub cross: Vec<u8>,
    /// Since when.
    pub started_at: Timestamp,
}

/// A root that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredRoot {
    /// The old root (X.509, DER).
    pub root: Vec<u8>,
    /// Its successor's certificate, signed by the old one (X.509, DER).
    pub cross: Vec<u8>,
    /// Since when it counts no more.
    pub retired_at: Timestamp,
}

impl Cluster {
    /// What nodes know of the authority: the roots that count, the one that makes certificates first, and then what leads
    /// to it from older ones, from the oldest on.
    pub fn bundle(&self) -> Vec<Vec<u8>> {
        let retired = self.retired.iter().map(|retired| &retired.cross);
        let rotation = self.rotation.iter().map(|rotation| &rotation.cross);
        self.roots.iter().chain(retired).chain(rotation).cloned().collect()
    }
}

/// What operators can change of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Ended tasks that are kept for each slot.
    pub task_history_limit: u32,
    /// How often an agent calls; a node is down after three times as long.
    pub heartbeat: Duration,
    /// How long a node's certificate counts.
    pub cert_expiry: Duration,
    /// Whether managers wait for the unlock key when they start.
    pub autolock: bool,
}

impl ClusterSpec {
    /// How often nodes call unless somebody says otherwise: a lost node's tasks are elsewhere within five seconds, and a
    /// thousand nodes that have nothing to say take a tenth of a processor at most.
    pub const HEARTBEAT: Duration = Duration::from_millis(1250);
}

impl Default for ClusterSpec {
    /// Docker's, but for the heartbeat.
    fn default() -> Self {
        Self {
            task_history_limit: 5,
            heartbeat: Self::HEARTBEAT,
            cert_expiry: Duration::from_hours(90 * 24),
            autolock: false,
        }
    }
}
