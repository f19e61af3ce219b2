//! The other managers: who they are, and the way to them.
//!
//! The store speaks of what is to be said, whoever implements [`Peers`] of how it gets there: over TLS in a cluster, by
//! hand in tests. An implementation must make sure that it speaks to the manager that is meant; one address may be
//! another's tomorrow.

use std::fmt;

use async_trait::async_trait;
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use tokio::sync::mpsc;

/// A manager that takes part in raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which node of the cluster.
    pub node: NodeId,
    /// Where the others reach it: `host:port`.
    pub address: String,
}

impl Default for Member {
    /// Nobody, which raft needs a value for where a member is not known.
    fn default() -> Self {
        Self { node: NodeId::from_random([0; 16]), address: String::new() }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.node, self.address)
    }
}

/// A message that got no answer. Whether it arrived is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct PeerError(pub String);

/// Carries raft's messages to other managers. Messages to one manager may overtake each other, arrive twice, or not at
/// all. A call that is dropped may still arrive.
#[async_trait]
pub trait Peers: Send + Sync + fmt::Debug {
    /// Log entries, or none as a sign of life.
    async fn append(&self, to: &Member, request: v1::AppendRequest) -> Result<v1::AppendResponse, PeerError>;

    /// Asks for a vote.
    async fn vote(&self, to: &Member, request: v1::VoteRequest) -> Result<v1::VoteResponse, PeerError>;

    /// A state in place of a log, chunk by chunk as they come. The sender is dropped early when the state cannot be read.
    async fn install_snapshot(
        &self,
        to: &Member,
        chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, PeerError>;
}

/// Reaches nobody: for a store that will never have another member.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn append(&self, to: &Member, _: v1::AppendRequest) -> Result<v1::AppendResponse, PeerError> {
        Err(alone(to))
    }

    async fn vote(&self, to: &Member, _: v1::VoteRequest) -> Result<v1::VoteResponse, PeerError> {
        Err(alone(to))
    }

    async fn install_snapshot(
        &self,
        to: &Member,
        _: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, PeerError> {
        Err(alone(to))
    }
}

fn alone(to: &Member) -> PeerError {
    PeerError(format!("manager {to} is not reachable: this store has no way to others"))
}
