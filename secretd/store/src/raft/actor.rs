//! The store's thread: raft's core, log and state machine, one after another on one thread.
//!
//! A commit is a chain of dependent steps (append, sync, apply, answer). On one thread the chain costs no wake-ups; only
//! the proposer's own hand-over and the answer do. What waits while a commit is under way goes into the next one
//! together: one log entry, one sync.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::error::{ClientWriteError, RaftError};
use secretd_core::time::Version;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio::time::timeout;
use tracing::{error, info};

use super::config::{Batch, Metrics, Outcomes, Raft, raft_config};
use super::log::LogStore;
use super::machine::StateMachine;
use super::membership::{MembershipError, members, no_quorum};
use super::network::Network;
use super::proposer::{fits, space, storage_error};
use super::reach::Reach;
use super::reclaim::reclaim;
use super::shared::Shared;
use super::snapshot::StateSnapshot;
use super::witness::{RolledBack, Witness};
use crate::conflict::Conflict;
use crate::engine::{Engine, Key, OpenError, Writes};
use crate::failure::StorageFailure;
use crate::ground::{Ground, LogLength, Threads};
use crate::op::{Op, Proposal, number_payloads};
use crate::peers::{Member, Peers};
use crate::proposer::ProposeError;
use crate::watch::Publisher;

/// What the store's thread is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Propose {
        proposal: Proposal,
        reply: Reply,
    },
    /// Give space back: the disk is full, and something was removed.
    Reclaim {
        reply: oneshot::Sender<()>,
    },
    /// Keep the state as it is now, for as long as the answer lives.
    Snapshot {
        reply: oneshot::Sender<StateSnapshot>,
    },
    /// Have another manager lead. Between proposals: none of them is under way then, and what comes after is for the next
    /// leader.
    HandOver {
        /// Held by reads that are made sure of.
        reads: Arc<RwLock<()>>,
        reply: oneshot::Sender<Result<(), MembershipError>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

type Reply = oneshot::Sender<Result<Version, ProposeError>>;

/// Proposals that wait for the thread; a proposer beyond them waits for room.
const REQUESTS: usize = 256;
/// Bytes of payloads that go into one log entry, at least one proposal.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of payloads after which the log is shortened before its number of entries asks for it.
const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// How long a commit may take before it is given up as one without a majority.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without a proposal what is known of other members is written down by itself.
const QUIET: Duration = Duration::from_secs(1);
/// How long applying what is committed may take when a store is opened.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long others may take to elect one of them.
const HAND_OVER: Duration = Duration::from_secs(2);

/// The running thread, as others see it.
#[derive(Clone)]
pub(crate) struct Started {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) raft: Raft,
    pub(crate) member: u64,
    pub(crate) reach: Arc<Reach>,
    pub(crate) threads: Arc<dyn Threads>,
    pub(crate) witness: Arc<Witness>,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("member", &self.member).finish_non_exhaustive()
    }
}

/// Starts the thread, and returns when proposals are taken. Where this is the only manager, all that is committed is
/// applied then.
pub(crate) async fn start(
    engine: Arc<Engine>,
    publisher: Arc<Publisher>,
    peers: Arc<dyn Peers>,
    ground: Ground,
) -> Result<Started, OpenError> {
    let reach = Arc::new(Reach::default());
    let (threads, log) = (ground.threads, ground.log);
    let way = Way { peers, runtime: Handle::current(), threads: Arc::clone(&threads), reach: Arc::clone(&reach) };
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let (ready, opened) = oneshot::channel();
    let run = async move {
        match Actor::open(engine, publisher, way, log).await {
            Ok(actor) => {
                let witness = Arc::clone(&actor.shared.witness);
                // An opener that has gone away has dropped its sender too: the inbox ends at once.
                let _ = ready.send(Ok((actor.raft.clone(), actor.member, witness)));
                actor.run(inbox).await;
            }
            Err(failure) => {
                let _ = ready.send(Err(failure));
            }
        }
    };
    threads.run_core(Box::pin(run)).map_err(OpenError::Thread)?;
    let stopped = || OpenError::Thread(std::io::Error::other("it stopped"));
    let (raft, member, witness) = opened.await.map_err(|_| stopped())??;
    Ok(Started { requests, raft, member, reach, threads, witness })
}

/// To the other members.
struct Way {
    peers: Arc<dyn Peers>,
    runtime: Handle,
    threads: Arc<dyn Threads>,
    reach: Arc<Reach>,
}

struct Actor {
    shared: Arc<Shared>,
    raft: Raft,
    member: u64,
    reach: Arc<Reach>,
    /// Bytes of payloads since the last snapshot that this asked for.
    payload_bytes: usize,
}

impl Actor {
    async fn open(
        engine: Arc<Engine>,
        publisher: Arc<Publisher>,
        way: Way,
        log_length: LogLength,
    ) -> Result<Self, OpenError> {
        let directory = engine.directory().to_owned();
        let damaged = |source| OpenError::Damaged { directory: directory.clone(), source };
        let refused = |reason: String| OpenError::Raft { directory: directory.clone(), reason };
        let member = member_id(&engine).map_err(|source| OpenError::of_failure(&directory, source))?;
        if let Some(line) = engine.get(&Key::ROLLED_BACK).map_err(damaged)? {
            return Err(OpenError::RolledBack(RolledBack(String::from_utf8_lossy(&line).into_owned())));
        }
        let failed = |source| OpenError::of_failure(&directory, source);
        let witness = Arc::new(Witness::open(&engine, member).map_err(failed)?);
        let Way { peers, runtime, threads, reach } = way;
        let network = Network { peers, runtime, threads, reach: Arc::clone(&reach), witness: Arc::clone(&witness) };
        let shared = Arc::new(Shared::new(engine, publisher, witness));
        let log = LogStore::open(Arc::clone(&shared)).map_err(damaged)?;
        let machine = StateMachine::open(Arc::clone(&shared)).map_err(damaged)?;
        let config = Arc::new(raft_config(log_length).validate().map_err(|error| refused(error.to_string()))?);
        let raft = Raft::new(member, config, network, log, machine).await;
        let raft = raft.map_err(|error| refused(error.to_string()))?;
        let actor = Self { shared, raft, member, reach, payload_bytes: 0 };
        let initialized = actor.is_initialized().await.map_err(|error| refused(error.to_string()))?;
        if initialized && actor.is_alone() {
            actor.lead().await.map_err(refused)?;
        }
        Ok(actor)
    }

    async fn is_initialized(&self) -> Result<bool, openraft::error::Fatal<u64>> {
        self.raft.is_initialized().await
    }

    /// Whether this is the only manager that votes.
    fn is_alone(&self) -> bool {
        let config = Arc::clone(&self.raft.metrics().borrow().membership_config);
        config.membership().voter_ids().eq([self.member])
    }

    /// Leads at once, without waiting for an election timer, and applies all that is committed.
    async fn lead(&self) -> Result<(), String> {
        let leads = self.raft.metrics().borrow().state == ServerState::Leader;
        if !leads {
            self.raft.trigger().elect().await.map_err(|error| error.to_string())?;
        }
        let member = self.member;
        let caught_up = move |metrics: &Metrics| {
            metrics.current_leader == Some(member)
                && metrics.last_applied.map(|log_id| log_id.index) == metrics.last_log_index
        };
        let waited = self.raft.wait(Some(RECOVERY_TIMEOUT)).metrics(caught_up, "leads and has applied its log").await;
        waited.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut waiting = Vec::new();
        let closing = loop {
            // Cancel-safe: a message that is received is not dropped.
            let request = match timeout(QUIET, inbox.recv()).await {
                Ok(request) => request,
                Err(_) => {
                    // After a failure nothing is written, which every proposal says.
                    let _ = self.shared.keep_witness();
                    continue;
                }
            };
            let other = match request {
                Some(Request::Propose { proposal, reply }) => {
                    waiting.push((proposal, reply));
                    let other = take_waiting(&mut inbox, &mut waiting);
                    self.commit(std::mem::take(&mut waiting)).await;
                    other
                }
                Some(other) => Some(other),
                None => break None,
            };
            // Whoever has gone away is owed no answer.
            match other {
                Some(Request::Reclaim { reply }) => {
                    reclaim(&self.raft, &self.shared).await;
                    let _ = reply.send(());
                }
                Some(Request::Snapshot { reply }) => {
                    let _ = reply.send(self.shared.snapshot());
                }
                Some(Request::HandOver { reads, reply }) => {
                    let _ = reply.send(self.hand_over(&reads).await);
                }
                Some(Request::Shutdown { reply }) => break Some(reply),
                Some(Request::Propose { .. }) | None => {}
            }
        };
        inbox.close();
        self.close().await;
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Keeps silent until another manager leads: the library of raft knows no other way. No read is made sure of meanwhile,
    /// because the others are told for it that this one leads still, and would elect nobody.
    async fn hand_over(&self, reads: &RwLock<()>) -> Result<(), MembershipError> {
        let member = self.member;
        let has_others = self.raft.metrics().borrow().membership_config.membership().voter_ids().any(|id| id != member);
        if !has_others {
            return Err(MembershipError::Quorum("there is no other manager to lead".to_owned()));
        }
        let settings = self.raft.runtime_config();
        let silence = async {
            let _no_reads = reads.write().await;
            settings.heartbeat(false);
            settings.elect(false);
            let other_leads = move |metrics: &Metrics| metrics.current_leader.is_some_and(|leader| leader != member);
            self.raft.wait(None).metrics(other_leads, "another manager leads").await
        };
        let handed_over = timeout(HAND_OVER, silence).await;
        settings.elect(true);
        settings.heartbeat(true);
        match handed_over {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(MembershipError::Stopped(error.to_string())),
            Err(_) => Err(MembershipError::Quorum(format!("no other manager has taken the lead in {HAND_OVER:?}"))),
        }
    }

    async fn commit(&mut self, waiting: Vec<(Proposal, Reply)>) {
        let (mut proposals, replies): (Vec<_>, Vec<_>) = self.admit(waiting).into_iter().unzip();
        if proposals.is_empty() {
            return;
        }
        number_payloads(&mut proposals);
        let bytes: usize = proposals.iter().map(payload_bytes).sum();
        let outcome = match self.prepare(&proposals).await {
            Ok(()) => self.write(proposals).await,
            Err(error) => Err(error),
        };
        // A proposer that has gone away is owed no answer.
        match outcome {
            Ok(Outcomes(outcomes)) => {
                for (outcome, reply) in outcomes.into_iter().zip(replies) {
                    let _ = reply.send(outcome.map_err(ProposeError::Conflict));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
        self.shorten_log(bytes).await;
    }

    /// Those that fit on the disk together. Each proposer has looked for itself, and did not see the others.
    fn admit(&self, waiting: Vec<(Proposal, Reply)>) -> Vec<(Proposal, Reply)> {
        let mut free = self.shared.engine.free_bytes();
        let mut admitted = Vec::with_capacity(waiting.len());
        for (proposal, reply) in waiting {
            if fits(free, &proposal.ops) {
                free = free.saturating_sub(space(&proposal.ops));
                admitted.push((proposal, reply));
            } else {
                let _ = reply.send(Err(ProposeError::Full)); // a proposer that has gone away is owed no answer
            }
        }
        admitted
    }

    /// Makes this node the first and only voter when a cluster is founded on it.
    async fn prepare(&self, proposals: &[Proposal]) -> Result<(), ProposeError> {
        let initialized = self.is_initialized().await.map_err(|error| self.stopped(&error.to_string()))?;
        if initialized {
            return Ok(());
        }
        let founder = |op: &Op| {
            let Op::InitCluster { node, .. } = op else { return None };
            Some(Member { node: node.id, address: node.address.clone() })
        };
        let mut ops = proposals.iter().flat_map(|proposal| &proposal.ops);
        let Some(founder) = ops.find_map(founder) else { return Err(Conflict::NotInitialized.into()) };
        let members = BTreeMap::from([(self.member, founder)]);
        self.raft.initialize(members).await.map_err(|error| self.stopped(&error.to_string()))?;
        self.lead().await.map_err(|reason| self.stopped(&reason))?;
        info!(member = format_args!("{:016x}", self.member), "this node is the cluster's first manager");
        Ok(())
    }

    async fn write(&self, proposals: Vec<Proposal>) -> Result<Outcomes, ProposeError> {
        if !votes(&self.raft.metrics().borrow(), self.member) {
            // Until it finds out, a leader that is out would take what no majority takes from it any more.
            return Err(ProposeError::NotLeader(None));
        }
        let truncations = self.shared.truncations();
        let written = self.raft.client_write(Batch(Arc::new(proposals)));
        match timeout(COMMIT_TIMEOUT, written).await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                // Raft gives the same answer for an entry that it had written and took back. Others may still have it.
                let was_written = self.shared.truncations() != truncations;
                Err(if was_written { ProposeError::Superseded } else { ProposeError::NotLeader(to.leader_node) })
            }
            Err(_) => Err(ProposeError::Undecided(Box::new(self.no_quorum()))),
            Ok(Err(error)) => Err(self.stopped(&error.to_string())),
        }
    }

    fn no_quorum(&self) -> ProposeError {
        no_quorum(&members(&self.raft.metrics().borrow(), &self.reach))
    }

    /// Raft has stopped: because of the engine, or for a reason of its own.
    fn stopped(&self, reason: &str) -> ProposeError {
        let failure = self.shared.engine.fail_with(|| StorageFailure::Inconsistent { what: reason.to_owned() });
        error!(error = %failure, "the store takes no more writes");
        storage_error(failure)
    }

    /// Large payloads would make the log long before its number of entries does.
    async fn shorten_log(&mut self, bytes: usize) {
        self.payload_bytes += bytes;
        if self.payload_bytes >= SNAPSHOT_BYTES {
            self.payload_bytes = 0;
            if let Err(error) = self.raft.trigger().snapshot().await {
                error!(%error, "the log cannot be shortened");
            }
        }
    }

    async fn close(self) {
        // A core that has stopped already is stopped.
        let _ = self.raft.shutdown().await;
        self.shared.publisher.close();
        if self.shared.engine.failure().is_none()
            && let Err(failure) = self.shared.commit(Writes::default())
        {
            error!(error = %failure, "the last state could not be written; it will be made again from the log");
        }
        if let Err(failure) = self.shared.engine.close() {
            error!(error = %failure, "the store could not be closed");
        }
    }
}

/// Whether a member has a vote.
fn votes(metrics: &Metrics, member: u64) -> bool {
    metrics.membership_config.membership().voter_ids().any(|voter| voter == member)
}

/// Takes the proposals that wait already, up to one batch. Answers with a request of another kind that came after them.
fn take_waiting(inbox: &mut mpsc::Receiver<Request>, waiting: &mut Vec<(Proposal, Reply)>) -> Option<Request> {
    let mut bytes: usize = waiting.iter().map(|(proposal, _)| payload_bytes(proposal)).sum();
    while bytes < BATCH_BYTES && waiting.len() < REQUESTS {
        match inbox.try_recv() {
            Ok(Request::Propose { proposal, reply }) => {
                bytes += payload_bytes(&proposal);
                waiting.push((proposal, reply));
            }
            Ok(other) => return Some(other),
            Err(_) => break,
        }
    }
    None
}

fn payload_bytes(proposal: &Proposal) -> usize {
    let payloads = proposal.ops.iter().filter_map(Op::payload).filter_map(|(_, payload)| payload.sealed());
    payloads.map(|sealed| sealed.ciphertext.len()).sum()
}

/// This member's id in raft: drawn once for each store, so that no id is used twice, not even by a wiped node.
pub(crate) fn member_id(engine: &Engine) -> Result<u64, Arc<StorageFailure>> {
    if let Some(id) = engine.number(&Key::MEMBER)? {
        return Ok(id);
    }
    let id = draw();
    let mut writes = Writes::default();
    writes.put(Key::MEMBER, id.to_be_bytes().to_vec());
    engine.commit(writes)?;
    Ok(id)
}

/// 64 random bits.
pub(crate) fn draw() -> u64 {
    let drawn = u128::from_be_bytes(*secretd_proto::id::NodeId::random().as_bytes());
    #[allow(clippy::cast_possible_truncation)] // 64 of its 128 random bits
    let drawn = drawn as u64;
    drawn
}
