//! Raft's way to other managers: its requests as messages, given to [`Peers`].
//!
//! Raft gives up a request after one heartbeat and asks again. A large secret takes longer than that on a slow line, so a
//! request under way is never sent twice: who asks again waits for the same answer. As long as it is under way the other
//! side hears a sign of life next to it, so that no size of secret makes a leader look dead.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{OptionalSend, Snapshot};
use tokio::runtime::Handle;

use super::config::{LogId, TypeConfig, Vote};
use super::lane::{Lane, Lanes, not_understood};
use super::message;
use super::reach::Reach;
use super::stream;
use super::witness::Witness;
use crate::ground::Threads;
use crate::peers::{Member, PeerError, Peers};

/// Between attempts to reach a manager that does not answer.
const RETRY: Duration = Duration::from_millis(100);

/// Makes connections. They speak on the runtime that the store was opened on, not on the store's thread, which waits for
/// the disk.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) runtime: Handle,
    pub(crate) threads: Arc<dyn Threads>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) witness: Arc<Witness>,
}

/// The connection to one member.
#[derive(Debug)]
pub(crate) struct Connection {
    network: Network,
    target: u64,
    member: Member,
    lane: Arc<Lane>,
}

type AppendError = RPCError<u64, Member, RaftError<u64>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, member: &Member) -> Connection {
        let lane = self.lanes.open(self.clone(), target, member.clone());
        Connection { network: self.clone(), target, member: member.clone(), lane }
    }
}

impl Connection {
    /// The answer, unless it shows that the member's log went back.
    #[allow(clippy::result_large_err)] // raft wants it unboxed
    fn noted(
        &self,
        previous: Option<LogId>,
        last: Option<LogId>,
        answer: AppendEntriesResponse<u64>,
    ) -> Result<AppendEntriesResponse<u64>, AppendError> {
        match self.lane.check_matched(previous, last, &answer) {
            Ok(()) => Ok(answer),
            Err(rolled_back) => {
                tracing::error!(error = %rolled_back, "a manager is refused");
                Err(Unreachable::new(&rolled_back).into())
            }
        }
    }
}

#[allow(clippy::result_large_err)] // raft wants it unboxed
fn joined<T>(answer: Result<Result<T, PeerError>, tokio::task::JoinError>) -> Result<T, AppendError> {
    let answer = answer.map_err(|error| PeerError(error.to_string())).and_then(|answer| answer);
    answer.map_err(|error| Unreachable::new(&error).into())
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, AppendError> {
        let previous = request.prev_log_id;
        let Some(last) = request.entries.last().map(|entry| entry.log_id) else {
            return self.noted(previous, previous, joined(self.lane.sign_of_life(&request).await)?);
        };
        let (answer, covered) = self.lane.send(&request, Some(last)).await;
        let answer = self.noted(previous, covered, joined(answer)?)?;
        match answer {
            AppendEntriesResponse::Success if covered < Some(last) => {
                Ok(AppendEntriesResponse::PartialSuccess(covered))
            }
            other @ (AppendEntriesResponse::Success
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::Conflict
            | AppendEntriesResponse::HigherVote(_)) => Ok(other),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let (network, target, member) = (self.network.clone(), self.target, self.member.clone());
        let request = message::vote_request(self.target, &request);
        let call = self.network.runtime.spawn(async move {
            let answer = network.vote(target, &member, request).await?;
            message::vote_answer(answer).map_err(not_understood)
        });
        joined(call.await)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let (network, target, member) = (self.network.clone(), self.target, self.member.clone());
        let chunks = stream::send(&self.network, &vote, target, snapshot);
        let mut call = self.network.runtime.spawn(async move {
            let answer = network.peers.install_snapshot(&member, chunks).await?;
            network.met(target, &member, answer.standing)?;
            Ok(answer)
        });
        let answer = tokio::select! {
            biased;
            closed = cancel => {
                call.abort();
                return Err(closed.into());
            }
            answer = &mut call => answer,
        };
        let answer = answer.map_err(|error| PeerError(error.to_string())).and_then(|answer| answer);
        let answer = answer.and_then(|answer| message::snapshot_answer(answer).map_err(not_understood));
        answer.map_err(|error| Unreachable::new(&error).into())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}
