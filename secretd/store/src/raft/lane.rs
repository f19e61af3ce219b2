//! The way of log entries to one member: what has been sent and not been answered, and what is known to be there.
//!
//! A leader may send entries before it has made them durable itself (Raft, section 10.2.1): its disk, the line and the other
//! disk then work at the same time. Raft's core knows nothing of it. [`Lanes::send_ahead`] sends what is about to be written;
//! the core asks for the same when it has been written, and finds it under way. It still counts this member only after its
//! own disk has said so. What makes this right is that a member that restarts never goes on in a term that it has led
//! ([`LogStore`](super::log::LogStore), when it reads its vote): so no two entries have the same log id.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;
use secretd_proto::v1;
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use super::config::{Entry, HEARTBEAT, LogId, TypeConfig, Vote};
use super::message;
use super::network::Network;
use crate::peers::{Member, PeerError, Peers};

/// How long one request may take: the largest goes over a line of 10 Mbit/s in half of it.
const LONGEST_CALL: Duration = Duration::from_secs(10);

/// A leader whose disk takes longer for one write gives its place up.
const LONGEST_WRITE: Duration = Duration::from_secs(2);

/// What a member answers.
pub(super) type Answer = Result<AppendEntriesResponse<u64>, PeerError>;

/// The way to one member.
#[derive(Debug)]
pub(super) struct Lane {
    network: Network,
    target: u64,
    member: Member,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As which leader entries were sent last.
    vote: Option<Vote>,
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
    answer: JoinHandle<Answer>,
}

/// A member that has forgotten what it had acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("manager {0} has lost entries of its log that it had acknowledged: was its data directory rolled back?")]
pub(crate) struct LostEntries(Member);

/// All lanes in use.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<Vec<Weak<Lane>>>);

impl Lanes {
    /// A new lane.
    pub(super) fn open(&self, network: Network, target: u64, member: Member) -> Arc<Lane> {
        let lane = Arc::new(Lane { network, target, member, state: Mutex::default() });
        let mut lanes = self.0.lock();
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(&lane));
        lane
    }

    /// Sends entries that this member, as `leader`, is about to write, to whom they are the next ones. All others hear signs
    /// of life until the answer is dropped: raft's core waits for the disk and sends none.
    pub(super) fn send_ahead(&self, leader: u64, entries: &[Entry], committed: Option<LogId>) -> Signs {
        let lanes: Vec<Arc<Lane>> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        Signs(lanes.iter().filter_map(|lane| lane.send_ahead(leader, entries, committed)).collect())
    }
}

/// Signs of life while a leader writes.
#[derive(Debug)]
#[must_use = "they end when this is dropped"]
pub(super) struct Signs(Vec<AbortHandle>);

impl Drop for Signs {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Lane {
    /// Sends entries ahead, or else signs of life, unless something is under way already: those calls have their own.
    fn send_ahead(&self, leader: u64, entries: &[Entry], committed: Option<LogId>) -> Option<AbortHandle> {
        let (first, last) = (entries.first()?, entries.last()?);
        let term = first.log_id.leader_id;
        let vote = Vote::new_committed(term.term, term.node_id);
        let mut state = self.state.lock();
        if term.node_id != leader || state.under_way.is_some() || state.vote != Some(vote) {
            return None;
        }
        let previous = state.matched;
        let is_next = previous.is_some_and(|matched| matched.index + 1 == first.log_id.index);
        // Who takes part changes with entries of another kind, and with it the lanes.
        let is_plain = entries.iter().all(|entry| matches!(entry.payload, EntryPayload::Normal(_)));
        let ahead = if is_next && is_plain { entries.to_vec() } else { Vec::new() };
        let is_sign_of_life = ahead.is_empty();
        let request = AppendEntriesRequest { vote, prev_log_id: previous, entries: ahead, leader_commit: committed };
        let request = message::append_request(self.target, &request);
        if is_sign_of_life {
            let (network, member) = (self.network.clone(), self.member.clone());
            let request = network.shown(self.target, request);
            let signs = async move {
                let _ = timeout(LONGEST_WRITE, signs_of_life(&*network.peers, &member, &request)).await;
            };
            return Some(self.network.runtime.spawn(signs).abort_handle());
        }
        let (answer, last) = (self.spawn(request), Some(last.log_id));
        state.under_way = Some(UnderWay { vote, previous, last, answer });
        None
    }

    /// A sign of life: not behind what is large.
    pub(super) async fn sign_of_life(&self, request: &AppendEntriesRequest<TypeConfig>) -> Result<Answer, JoinError> {
        self.state.lock().vote = Some(request.vote);
        self.spawn(message::append_request(self.target, request)).await
    }

    /// Sends entries, or waits for the answer to those that are under way already: the answer, and the last entry that it is
    /// about. Raft drops this call after a heartbeat: then they stay under way.
    pub(super) async fn send(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
        last: Option<LogId>,
    ) -> (Result<Answer, JoinError>, Option<LogId>) {
        let covered = self.begin(request, last);
        let answer = poll_fn(|context| {
            let mut state = self.state.lock();
            match &mut state.under_way {
                Some(sent) => Pin::new(&mut sent.answer).poll(context),
                None => std::task::Poll::Pending, // it is put there above, and taken away below
            }
        });
        let answer = answer.await;
        self.state.lock().under_way = None;
        (answer, covered)
    }

    /// Sees to it that entries are under way which begin as the request's do: the last one of them.
    fn begin(&self, request: &AppendEntriesRequest<TypeConfig>, last: Option<LogId>) -> Option<LogId> {
        let mut state = self.state.lock();
        state.vote = Some(request.vote);
        let same =
            |sent: &UnderWay| sent.vote == request.vote && sent.previous == request.prev_log_id && sent.last <= last;
        if let Some(sent) = state.under_way.as_ref().filter(|sent| same(sent)) {
            return sent.last;
        }
        let (vote, previous) = (request.vote, request.prev_log_id);
        let answer = self.spawn(message::append_request(self.target, request));
        state.under_way = Some(UnderWay { vote, previous, last, answer });
        last
    }

    fn spawn(&self, request: v1::AppendRequest) -> JoinHandle<Answer> {
        let (network, target, member) = (self.network.clone(), self.target, self.member.clone());
        self.network.runtime.spawn(async move {
            let answer = network.append(target, &member, request).await?;
            message::append_answer(answer).map_err(not_understood)
        })
    }

    /// Takes note of what a member has. Raft's core must not hear of a log that went back: it would stop.
    pub(super) fn check_matched(
        &self,
        previous: Option<LogId>,
        last: Option<LogId>,
        answer: &AppendEntriesResponse<u64>,
    ) -> Result<(), LostEntries> {
        let mut state = self.state.lock();
        match answer {
            AppendEntriesResponse::Success => state.matched = state.matched.max(last),
            AppendEntriesResponse::PartialSuccess(up_to) => state.matched = state.matched.max(*up_to),
            AppendEntriesResponse::Conflict if previous <= state.matched => {
                return Err(LostEntries(self.member.clone()));
            }
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(())
    }
}

pub(super) fn not_understood(error: impl std::fmt::Display) -> PeerError {
    PeerError(format!("the answer is not understood: {error}"))
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
        signs_of_life(peers, to, &sign_of_life).await;
    };
    tokio::select! {
        biased;
        answer = call => answer.map_err(|_| PeerError(format!("manager {to} has not answered in {LONGEST_CALL:?}")))?,
        () = signs => Err(PeerError("signs of life have ended".to_owned())),
    }
}

/// Signs of life, until the future is dropped.
async fn signs_of_life(peers: &dyn Peers, to: &Member, sign: &v1::AppendRequest) {
    loop {
        sleep(HEARTBEAT).await;
        let _ = timeout(HEARTBEAT, peers.append(to, sign.clone())).await; // what is wrong shows in the calls that count
    }
}

/// What a message has besides entries.
pub(super) fn without_entries(request: &v1::AppendRequest) -> v1::AppendRequest {
    v1::AppendRequest {
        to: request.to,
        vote: request.vote,
        previous: request.previous,
        entries: Vec::new(),
        committed: request.committed,
        standing: request.standing,
        witnessed: Vec::new(),
    }
}
