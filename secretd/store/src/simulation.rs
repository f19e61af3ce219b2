//! A store in a simulated world: the ground it stands on is the simulation's, and what it has can be looked at.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use camino::Utf8Path;
use openraft::ServerState;
use secretd_core::seam::clock::Clock;
use secretd_sealing::at_rest::Sealer;

pub use crate::engine::disk::DiskFile;
pub use crate::ground::{LogLength, Threads, Work};

pub use crate::engine::simulated::SealedRecord;
use crate::engine::simulated::Simulated;
use crate::engine::{Engine, Key, OpenError, Scan};
use crate::failure::StorageFailure;
use crate::ground::Ground;
use crate::op::PayloadRef;
use crate::peers::Peers;
use crate::raft::config::{LogId, Metrics, Raft, Vote};
use crate::record;
use crate::store::Store;
use crate::view::View;

/// A disk that a simulation keeps. It fails as the simulation has it.
pub trait SimulatedDisk: fmt::Debug + Send + Sync {
    /// Makes a directory and those above it, unless it is there.
    fn create_directory(&self, directory: &Utf8Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_directory(&self, directory: &Utf8Path) -> io::Result<()>;
    /// Makes durable which files a directory has.
    fn sync_directory(&self, directory: &Utf8Path) -> io::Result<()>;
    /// Opens a file, or makes it.
    fn open(&self, path: &Utf8Path) -> io::Result<Box<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, path: &Utf8Path) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> u64;
}

/// The ground of a simulated store.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The disk of its node.
    pub disk: Arc<dyn SimulatedDisk>,
    /// Where work is done.
    pub threads: Arc<dyn Threads>,
    /// When the log is shortened.
    pub log: LogLength,
}

/// Names an entry of the log: no two entries have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Of the leader that made it.
    pub term: u64,
    /// The leader that made it.
    pub leader: u64,
    /// Its place.
    pub index: u64,
}

/// A log entry, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Its name.
    pub id: EntryId,
    /// Tells its content.
    pub digest: u64,
}

/// A vote. A greater one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voted {
    /// The term.
    pub term: u64,
    /// The candidate.
    pub candidate: u64,
    /// Whether the candidate has won.
    pub won: bool,
}

/// What a member of raft is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub member: u64,
    /// Its term.
    pub term: u64,
    /// Whether it takes itself for the leader.
    pub leads: bool,
    /// The last entry of its log.
    pub last_index: u64,
    /// The last entry that is in its state.
    pub applied: Option<EntryId>,
    /// The last entry of its snapshot.
    pub snapshot: u64,
    /// The sets of voters of which each must agree, and the entry that they came with.
    pub voters: Vec<BTreeSet<u64>>,
    /// The index of that entry.
    pub voters_since: u64,
}

impl Store {
    /// As [`Store::open`], in a simulated world.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_simulated(
        simulation: Simulation,
        dir: &Utf8Path,
        sealer: Sealer,
        clock: Arc<dyn Clock>,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, OpenError> {
        let Simulation { disk, threads, log } = simulation;
        Self::open_upon(Ground { disk: Arc::new(Simulated(disk)), threads, log }, dir, sealer, clock, peers).await
    }

    /// For looking at what it has; none of a store in memory.
    pub fn inspect(&self) -> Option<Inspection> {
        let replica = self.replica()?;
        Some(Inspection { raft: replica.raft.clone(), engine: Arc::clone(&replica.engine), store: self.clone() })
    }
}

/// Looks at what a store has.
#[derive(Clone)]
pub struct Inspection {
    raft: Raft,
    engine: Arc<Engine>,
    store: Store,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspection(..)")
    }
}

impl Inspection {
    /// What this member is.
    pub fn standing(&self) -> Standing {
        standing(&self.raft.metrics().borrow())
    }

    /// The vote that the disk has.
    ///
    /// # Errors
    /// When the record cannot be read, here and below.
    pub fn vote(&self) -> Result<Option<Voted>, StorageFailure> {
        let vote = self.engine.get(&Key::VOTE)?.map(|bytes| record::decode_vote(&bytes)).transpose()?;
        Ok(vote.map(|vote: Vote| Voted {
            term: vote.leader_id.term,
            won: vote.committed,
            candidate: vote.leader_id.node_id,
        }))
    }

    /// The entries from `first` on that the disk has, with what their payloads are.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn log(&self, first: u64) -> Result<Vec<LoggedEntry>, StorageFailure> {
        let mut entries = Vec::new();
        self.engine.scan(&Key::log(first), &Key::log(u64::MAX), |_, bytes| {
            let entry = record::decode_entry(&bytes)?;
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            entries.push(LoggedEntry { id: entry_id(entry.log_id), digest: hasher.finish() });
            Ok(Scan::Next)
        })?;
        Ok(entries)
    }

    /// Up to where the log is purged.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn purged(&self) -> Result<u64, StorageFailure> {
        let purged = self.engine.get(&Key::PURGED)?.map(|bytes| record::decode_log_id(&bytes)).transpose()?;
        Ok(purged.map_or(0, |log_id| log_id.index))
    }

    /// Tells the whole state.
    pub fn state_digest(&self, view: &View) -> u64 {
        let state = view.state();
        let mut hasher = DefaultHasher::new();
        state.version.0.hash(&mut hasher);
        for (key, record) in state.keys().filter_map(|key| Some((key, state.get(key)?))) {
            key.hash(&mut hasher);
            record::encode_record(&record).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether every payload that the state refers to is on the disk; the first that is not.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn missing_payload(&self) -> Result<Option<String>, StorageFailure> {
        let view = self.store.view();
        let payloads: Vec<PayloadRef> = view.state().payloads().collect();
        for at in payloads {
            let key = Key::payload(at);
            if self.engine.get(&key)?.is_none() {
                return Ok(Some(key.to_string()));
            }
        }
        Ok(None)
    }

    /// Every record as it is on the disk, sealed: place and bytes.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn sealed_records(&self) -> Result<Vec<SealedRecord>, StorageFailure> {
        self.engine.sealed_records()
    }
}

fn entry_id(log_id: LogId) -> EntryId {
    EntryId { term: log_id.leader_id.term, leader: log_id.leader_id.node_id, index: log_id.index }
}

fn standing(metrics: &Metrics) -> Standing {
    let membership = &metrics.membership_config;
    Standing {
        member: metrics.id,
        term: metrics.current_term,
        leads: metrics.state == ServerState::Leader,
        last_index: metrics.last_log_index.unwrap_or(0),
        applied: metrics.last_applied.map(entry_id),
        snapshot: metrics.snapshot.map_or(0, |log_id| log_id.index),
        voters: membership.membership().get_joint_config().clone(),
        voters_since: membership.log_id().map_or(0, |log_id| log_id.index),
    }
}
