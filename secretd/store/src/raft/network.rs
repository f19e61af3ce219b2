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
use secretd_proto::v1;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::config::{HEARTBEAT, LogId, TypeConfig, Vote};
use super::message;
use super::reach::Reach;
use super::stream;
use super::witness::Witness;
use crate::ground::Threads;
use crate::peers::{Member, PeerError, Peers};

/// Between attempts to reach a manager that does not answer.
const RETRY: Duration = Duration::from_millis(100);
/// How long one request may take: the largest goes over a line of 10 Mbit/s in half of it.
const LONGEST_CALL: Duration = Duration::from_secs(10);

/// Makes connections. They speak on the runtime that the store was opened on, not on the store's thread, which waits for
/// the disk.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) runtime: Handle,
    pub(crate) threads: Arc<dyn Threads>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) witness: Arc<Witness>,
}

/// The connection to one member.
#[derive(Debug)]
pub(crate) struct Connection {
    network: Network,
    target: u64,
    member: Member,
    under_way: Option<UnderWay>,
    /// Up to where the member has said that its log is the leader's.
    matched: Option<LogId>,
}

/// Entries that have been sent and not been answered.
#[derive(Debug)]
struct UnderWay {
    vote: Vote,
    previous: Option<LogId>,
    last: Option<LogId>,
    answer: JoinHandle<Result<AppendEntriesResponse<u64>, PeerError>>,
}

/// A member that has forgotten what it had acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("manager {0} has lost entries of its log that it had acknowledged: was its data directory rolled back?")]
struct LostEntries(Member);

type AppendError = RPCError<u64, Member, RaftError<u64>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, member: &Member) -> Connection {
        Connection { network: self.clone(), target, member: member.clone(), under_way: None, matched: None }
    }
}

impl Connection {
    /// Sends entries, or waits for the answer to those that are under way already: the last that is then known to be there.
    async fn send(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<u64>, AppendError> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let same =
            |sent: &UnderWay| sent.vote == request.vote && sent.previous == request.prev_log_id && sent.last <= last;
        if request.entries.is_empty() {
            // A sign of life: not behind what is large.
            let answer = self.spawn(message::append_request(self.target, &request));
            return joined(answer.await);
        }
        let sent = match self.under_way.take() {
            Some(sent) if same(&sent) => self.under_way.insert(sent),
            Some(_) | None => {
                let (vote, previous) = (request.vote, request.prev_log_id);
                let answer = self.spawn(message::append_request(self.target, &request));
                self.under_way.insert(UnderWay { vote, previous, last, answer })
            }
        };
        let answer = (&mut sent.answer).await; // raft drops this call after a heartbeat: then it stays under way
        let covered = sent.last;
        self.under_way = None;
        match joined(answer)? {
            AppendEntriesResponse::Success if covered < last => Ok(AppendEntriesResponse::PartialSuccess(covered)),
            other @ (AppendEntriesResponse::Success
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::Conflict
            | AppendEntriesResponse::HigherVote(_)) => Ok(other),
        }
    }

    fn spawn(&self, request: v1::AppendRequest) -> JoinHandle<Result<AppendEntriesResponse<u64>, PeerError>> {
        let (network, target, member) = (self.network.clone(), self.target, self.member.clone());
        self.network.runtime.spawn(async move {
            let answer = network.append(target, &member, request).await?;
            message::append_answer(answer).map_err(not_understood)
        })
    }

    /// Raft's core must not hear of a log that went back: it would stop.
    fn check_matched(
        &mut self,
        previous: Option<LogId>,
        last: Option<LogId>,
        answer: &AppendEntriesResponse<u64>,
    ) -> Result<(), LostEntries> {
        match answer {
            AppendEntriesResponse::Success => self.matched = self.matched.max(last),
            AppendEntriesResponse::PartialSuccess(up_to) => self.matched = self.matched.max(*up_to),
            AppendEntriesResponse::Conflict if previous <= self.matched => {
                return Err(LostEntries(self.member.clone()));
            }
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(())
    }
}

/// Makes one call, with signs of life next to it while it takes long.
pub(super) async fn deliver(
    peers: &dyn Peers,
    to: &Member,
    request: v1::AppendRequest,
) -> Result<v1::AppendResponse, PeerError> {
    let is_sign_of_life = request.entries.is_empty();
    let sign_of_life = without_entries(&request);
    let call = timeout(LONGEST_CALL, peers.append(to, request));
    let signs = async {
        if is_sign_of_life {
            std::future::pending::<()>().await;
        }
        loop {
            sleep(HEARTBEAT).await;
            let _ = timeout(HEARTBEAT, peers.append(to, sign_of_life.clone())).await; // the call itself tells what is wrong
        }
    };
    tokio::select! {
        biased;
        answer = call => answer.map_err(|_| PeerError(format!("manager {to} has not answered in {LONGEST_CALL:?}")))?,
        () = signs => Err(PeerError("signs of life have ended".to_owned())),
    }
}

/// What a message has besides entries.
pub(super) fn without_entries(request: &v1::AppendRequest) -> v1::AppendRequest {
    let v1::AppendRequest { to, vote, previous, committed, standing, .. } = *request;
    v1::AppendRequest { to, vote, previous, entries: Vec::new(), committed, standing, witnessed: Vec::new() }
}

#[allow(clippy::result_large_err)] // raft wants it unboxed
fn joined<T>(answer: Result<Result<T, PeerError>, tokio::task::JoinError>) -> Result<T, AppendError> {
    let answer = answer.map_err(|error| PeerError(error.to_string())).and_then(|answer| answer);
    answer.map_err(|error| Unreachable::new(&error).into())
}

fn not_understood(error: impl std::fmt::Display) -> PeerError {
    PeerError(format!("the answer is not understood: {error}"))
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, AppendError> {
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let answer = self.send(request).await?;
        if let Err(rolled_back) = self.check_matched(previous, last, &answer) {
            tracing::error!(error = %rolled_back, "a manager is refused");
            return Err(Unreachable::new(&rolled_back).into());
        }
        Ok(answer)
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    /// A manager on a slow line: entries take their time, and when signs of life come is written down.
    #[derive(Debug)]
    struct Slow {
        entries_take: Duration,
        signs: Mutex<Vec<Instant>>,
    }

    #[async_trait]
    impl Peers for Slow {
        async fn append(&self, _: &Member, request: v1::AppendRequest) -> Result<v1::AppendResponse, PeerError> {
            if request.entries.is_empty() {
                self.signs.lock().push(Instant::now());
            } else {
                sleep(self.entries_take).await;
            }
            Ok(v1::AppendResponse::default())
        }

        async fn vote(&self, _: &Member, _: v1::VoteRequest) -> Result<v1::VoteResponse, PeerError> {
            Err(PeerError("nobody votes here".to_owned()))
        }

        async fn install_snapshot(
            &self,
            _: &Member,
            _: mpsc::Receiver<v1::SnapshotChunk>,
        ) -> Result<v1::SnapshotResponse, PeerError> {
            Err(PeerError("nobody is behind here".to_owned()))
        }
    }

    fn large() -> v1::AppendRequest {
        v1::AppendRequest { entries: vec![v1::AppendedEntry::default()], ..v1::AppendRequest::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn large_entries_do_not_keep_signs_of_life_away() {
        let slow = Slow { entries_take: Duration::from_secs(9), signs: Mutex::default() };
        let began = Instant::now();

        deliver(&slow, &Member::default(), large()).await.unwrap();

        let signs = slow.signs.into_inner();
        let mut heard = vec![began];
        heard.extend(signs);
        heard.push(Instant::now());
        let longest = heard.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= 2 * HEARTBEAT, "nothing was heard for {longest:?}");
        assert_eq!(began.elapsed(), Duration::from_secs(9), "the entries are sent once");
    }

    #[tokio::test(start_paused = true)]
    async fn entries_that_nobody_answers_are_given_up() {
        let dead = Slow { entries_take: Duration::from_hours(1), signs: Mutex::default() };
        let began = Instant::now();

        deliver(&dead, &Member::default(), large()).await.unwrap_err();

        assert_eq!(began.elapsed(), LONGEST_CALL);
    }
}
