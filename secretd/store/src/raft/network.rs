//! Raft's way to other managers. A cluster has one manager so far: there is nobody to reach, and this says so.

use std::future::Future;

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{EmptyNode, OptionalSend, Snapshot};

use super::config::{TypeConfig, Vote};

/// Reaches no other manager.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SingleManager;

/// A member that is not this one.
#[derive(Debug, thiserror::Error)]
#[error("manager {0:016x} is not reachable: this cluster has one manager")]
pub(crate) struct NoOtherManager(u64);

/// The connection to one member.
#[derive(Debug)]
pub(crate) struct NoConnection(u64);

impl NoConnection {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(&NoOtherManager(self.0))
    }
}

impl RaftNetworkFactory<TypeConfig> for SingleManager {
    type Network = NoConnection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> NoConnection {
        NoConnection(target)
    }
}

impl RaftNetwork<TypeConfig> for NoConnection {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot<TypeConfig>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        Err(self.unreachable().into())
    }
}
