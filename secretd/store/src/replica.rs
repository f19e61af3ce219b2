//! This manager's part in raft: who leads, who takes part, and how a read is made sure of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError};
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use tokio::sync::{RwLock, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::engine::Engine;
use crate::failure::StorageFailure;
use crate::ground::{Threads, aside};
use crate::peers::Member;
use crate::proposer::{ProposeError, ReadError};
use crate::raft::actor::{Request, Started};
use crate::raft::backup::Backup;
use crate::raft::config::Raft;
use crate::raft::membership::{self, Leadership, MemberStatus, MembershipError};
use crate::raft::reach::Reach;
use crate::raft::server::RaftServer;
use crate::raft::witness::{RolledBack, Witness};

/// How long a read may wait for the majority's word that this manager still leads.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Between attempts to have it.
const READ_RETRY: Duration = Duration::from_millis(20);

/// One member of raft. Clones are handles to the same member.
#[derive(Clone)]
pub struct Replica {
    pub(crate) raft: Raft,
    member: u64,
    reach: Arc<Reach>,
    pub(crate) engine: Arc<Engine>,
    threads: Arc<dyn Threads>,
    witness: Arc<Witness>,
    /// Held by each read that is made sure of, and by a hand-over alone.
    reads: Arc<RwLock<()>>,
    /// Of the store, which ends when nobody holds it.
    requests: mpsc::WeakSender<Request>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("member", &self.member).finish_non_exhaustive()
    }
}

impl Replica {
    pub(crate) fn new(started: &Started, engine: Arc<Engine>) -> Self {
        let Started { raft, member, reach, requests, threads, witness } = started;
        let (reach, threads, witness) = (Arc::clone(reach), Arc::clone(threads), Arc::clone(witness));
        let requests = requests.downgrade();
        Self { raft: raft.clone(), member: *member, reach, engine, threads, witness, reads: Arc::default(), requests }
    }

    /// This member's number in raft: drawn with its store, never used twice.
    pub fn member_id(&self) -> u64 {
        self.member
    }

    /// Which node this is, as far as it is a member.
    pub fn own_node(&self) -> NodeId {
        let config = Arc::clone(&self.raft.metrics().borrow().membership_config);
        config.membership().get_node(&self.member).cloned().unwrap_or_default().node
    }

    /// Whether raft has stopped, for whatever reason.
    #[cfg(any(test, feature = "testing"))]
    pub fn has_stopped(&self) -> bool {
        self.raft.metrics().borrow().running_state.is_err()
    }

    /// What other managers ask of it.
    pub fn server(&self) -> RaftServer {
        let (engine, threads, witness) =
            (Arc::clone(&self.engine), Arc::clone(&self.threads), Arc::clone(&self.witness));
        RaftServer::new(self.raft.clone(), self.member, engine, threads, witness)
    }

    /// How far this store is: what a node keeps of it.
    pub fn position(&self) -> v1::StoredWitnessed {
        v1::StoredWitnessed { member: self.member, position: Some(self.witness.position().into()) }
    }

    /// Whether this store was where a node has seen it.
    pub fn was_at(&self, seen: &v1::StoredWitnessed) -> bool {
        seen.member != self.member || seen.position.is_none_or(|place| self.witness.was_at(place.into()))
    }

    /// Notes that a node has seen this store where it never was, or that none does any more.
    pub fn doubt(&self, why: Option<String>) {
        self.witness.doubt(why);
    }

    /// What a node has said last that has seen this store where it never was.
    pub fn doubted(&self) -> Option<String> {
        self.witness.doubted()
    }

    /// Tells when other managers have found out that this store is older than it was. It takes no part from then on, and
    /// had best be closed.
    pub fn rolled_back(&self) -> watch::Receiver<Option<RolledBack>> {
        self.witness.rolled_back()
    }

    /// The state as it is now, for a backup. Everything goes on.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn backup(&self) -> Result<Backup, ReadError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.upgrade().ok_or(ReadError::Closed)?;
        requests.send(Request::Snapshot { reply }).await.map_err(|_| ReadError::Closed)?;
        answer.await.map(Backup).map_err(|_| ReadError::Closed)
    }

    /// Seals every record anew that is under an older data key of the node, while everything goes on: how many there were.
    ///
    /// # Errors
    /// When the store is closed, or the disk fails.
    pub async fn reseal(&self) -> Result<u64, Arc<StorageFailure>> {
        let engine = Arc::clone(&self.engine);
        let panicked = || {
            let source = std::io::Error::other("it has panicked");
            Arc::new(StorageFailure::Io { step: "seal records anew", source })
        };
        aside(&*self.threads, async move { engine.reseal() }).await.unwrap_or_else(|| Err(panicked()))
    }

    /// Who leads now.
    pub fn leadership(&self) -> Leadership {
        membership::leadership(&self.raft.metrics().borrow())
    }

    /// Who leads and takes part, each time that it is another. Ends with the store.
    pub fn watch_leadership(&self) -> LeadershipWatch {
        LeadershipWatch { metrics: self.raft.metrics(), known: None }
    }

    /// Who takes part.
    pub fn members(&self) -> Vec<MemberStatus> {
        membership::members(&self.raft.metrics().borrow(), &self.reach)
    }

    /// Makes a node that has opened its store a voting member, in place of the member that it was before. Returns when it
    /// has the state and its vote counts.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn add_member(&self, id: u64, member: Member) -> Result<(), MembershipError> {
        membership::add(&self.raft, &self.reach, id, member).await
    }

    /// Takes another member out. One that leads hands the lead over first: a leader that crashed on its own way out could be
    /// the only one that knows of it, and needed by others who are not elected without it (Raft's thesis, 4.2.2, has it stand
    /// for election then, which the library does not).
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn remove_member(&self, id: u64) -> Result<(), MembershipError> {
        if id == self.member {
            return Err(MembershipError::Leads);
        }
        membership::remove(&self.raft, id).await
    }

    /// Has another manager lead, within a second when all is well. Reads and proposals wait meanwhile, and go to that one.
    ///
    /// # Errors
    /// See [`MembershipError`]: when nobody has taken the lead, this manager has it still, or stands for it again.
    pub async fn hand_over(&self) -> Result<(), MembershipError> {
        let closed = || MembershipError::Stopped("it is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.upgrade().ok_or_else(closed)?;
        requests.send(Request::HandOver { reads: Arc::clone(&self.reads), reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Stands for election now, as if the leader had been silent for too long.
    #[cfg(any(test, feature = "testing"))]
    pub async fn stand_for_election(&self) {
        let _ = self.raft.trigger().elect().await; // raft has stopped, then: nobody waits for this
    }

    /// Returns when every view that is taken from now on has all that had been acknowledged when this was called: a
    /// majority has said that this manager leads still (read index, Raft section 6.4).
    ///
    /// # Errors
    /// When another leads, or too few managers answer.
    pub async fn linearize(&self) -> Result<(), ProposeError> {
        let alone = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().voter_ids().eq([self.member])
                && metrics.current_leader == Some(self.member)
        };
        if alone {
            return Ok(()); // nobody else can have acknowledged anything
        }
        let confirmed = async {
            loop {
                let asked = {
                    let _read = self.reads.read().await;
                    self.raft.ensure_linearizable().await
                };
                match asked {
                    Ok(_) => return Ok(()),
                    // Others may be away for a moment.
                    Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => sleep(READ_RETRY).await,
                    Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                        return Err(ProposeError::NotLeader(to.leader_node));
                    }
                    Err(RaftError::Fatal(_)) => return Err(ProposeError::Closed),
                }
            }
        };
        timeout(READ_TIMEOUT, confirmed).await.unwrap_or_else(|_| Err(self.no_quorum()))
    }

    /// What a caller is told when too few managers answer.
    pub fn no_quorum(&self) -> ProposeError {
        membership::no_quorum(&self.members())
    }
}

/// Tells who leads, change by change.
#[derive(Debug)]
pub struct LeadershipWatch {
    metrics: watch::Receiver<crate::raft::config::Metrics>,
    known: Option<Leadership>,
}

impl LeadershipWatch {
    /// The present state at the first call, then the next other one; `None` when the store has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Leadership> {
        loop {
            let now = membership::leadership(&self.metrics.borrow_and_update());
            if self.known.as_ref() != Some(&now) {
                self.known = Some(now.clone());
                return Some(now);
            }
            self.metrics.changed().await.ok()?;
        }
    }
}
