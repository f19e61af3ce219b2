//! Raft's log and vote on the engine.
//!
//! A payload is written once: with its log entry, as a record of its own, to which the state refers from then on. So an
//! entry is read in two ways: lean for applying, which needs no payload, and whole for other managers.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, EntryPayload, LogState, OptionalSend, RaftLogReader};

use super::config::{Batch, Entry, LogId, StorageError, StorageIOError, TypeConfig, Vote, any_error};
use super::shared::Shared;
use crate::engine::{Key, Scan, Writes};
use crate::failure::StorageFailure;
use crate::op::{Op, PayloadRef, Proposal};
use crate::record::{self, decode_payload};

/// The log, as raft's core writes it.
#[derive(Debug)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    committed: Option<LogId>,
}

/// The log, as other managers are given it: with payloads.
#[derive(Debug)]
pub(crate) struct WholeLog {
    shared: Arc<Shared>,
}

/// How many bytes of payloads go into one message to another manager, at least one entry.
const WHOLE_LOG_BYTES: usize = 4 * 1024 * 1024;

impl LogStore {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, StorageFailure> {
        let committed = log_id_at(&shared, &Key::COMMITTED)?;
        Ok(Self { shared, committed })
    }

    fn last_log_id(&self) -> Result<Option<LogId>, StorageFailure> {
        let engine = &self.shared.engine;
        let Some(key) = engine.last_key(&Key::log(0), &Key::log(u64::MAX))? else { return Ok(None) };
        let entry = engine.get(&key)?.map(|bytes| record::decode_entry(&bytes)).transpose()?;
        Ok(entry.map(|entry| entry.log_id))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let Some((first, last)) = kept(&self.shared, &range) else { return Ok(Vec::new()) };
        if let Some(entries) = self.shared.recent(first, last) {
            return Ok(entries);
        }
        lean_entries(&self.shared, first, last).map_err(read_error)
    }
}

impl RaftLogReader<TypeConfig> for WholeLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let Some((first, last)) = kept(&self.shared, &range) else { return Ok(Vec::new()) };
        whole_entries(&self.shared, first, last, usize::MAX).map_err(read_error)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let Some((first, last)) = inclusive(&(start..end)) else { return Ok(Vec::new()) };
        if let Some(entries) = self.shared.recent(first, last) {
            return Ok(entries); // no more than were proposed, or came in one message, at a time
        }
        whole_entries(&self.shared, first, last, WHOLE_LOG_BYTES).map_err(read_error)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = WholeLog;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let purged = log_id_at(&self.shared, &Key::PURGED).map_err(read_error)?;
        let last_purged_log_id = self.shared.waiting_purge().or(purged);
        let last_log_id = self.last_log_id().map_err(read_error)?.max(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> WholeLog {
        WholeLog { shared: Arc::clone(&self.shared) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let mut writes = Writes::default();
        writes.put(Key::VOTE, record::encode_vote(vote));
        self.shared.commit(writes).map_err(|failure| StorageIOError::write_vote(any_error(failure)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = vote_at_start(&self.shared);
        vote.map_err(|failure| StorageIOError::read_vote(AnyError::new(&failure)).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.committed = committed;
        self.shared.stage([(Key::COMMITTED, committed.map(record::encode_log_id))]);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut writes = Writes::default();
        for entry in &entries {
            write_entry(&mut writes, entry);
        }
        // Blocks this thread, which is the store's own: nothing else could go on before the commit.
        match self.shared.append(writes) {
            Ok(()) => {
                self.shared.set_recent(entries);
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(failure) => Err(StorageIOError::write_logs(any_error(failure)).into()),
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.shared.set_recent(Vec::new());
        let mut writes = Writes::default();
        writes.delete_all(Key::log(log_id.index), Key::log(u64::MAX));
        let first = PayloadRef { index: log_id.index, slot: 0 };
        writes.delete_all(Key::payload(first), Key::payload(PayloadRef::last_of(u64::MAX)));
        self.shared.truncate(writes).map_err(|failure| StorageIOError::write_logs(any_error(failure)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.shared.set_recent(Vec::new());
        self.shared.purge(log_id).map_err(|failure| StorageIOError::write_logs(any_error(failure)).into())
    }
}

fn log_id_at(shared: &Shared, key: &Key) -> Result<Option<LogId>, StorageFailure> {
    shared.engine.get(key)?.map(|bytes| record::decode_log_id(&bytes)).transpose()
}

/// The vote that raft begins with. A leader that was killed does not go on as one: it would take for agreed on what it
/// had written down as that, which is less than what it had acknowledged, and answer reads with an older state. It has to
/// be elected again, and has everything when it is. The only manager needs nobody's agreement: it is opened when all that it
/// has written is applied, and starts on a disk that has no room for another vote.
fn vote_at_start(shared: &Shared) -> Result<Option<Vote>, StorageFailure> {
    let Some(bytes) = shared.engine.get(&Key::VOTE)? else { return Ok(None) };
    let vote = record::decode_vote(&bytes)?;
    let leader = vote.leader_id;
    let is_own = shared.engine.number(&Key::MEMBER)? == Some(leader.node_id);
    let steps_down = is_own && !is_alone(shared, leader.node_id)?;
    Ok(Some(if steps_down { Vote::new(leader.term, leader.node_id) } else { vote }))
}

/// Whether nobody else has had a vote since the state that is on the disk.
fn is_alone(shared: &Shared, member: u64) -> Result<bool, StorageFailure> {
    let applied = shared.engine.get(&Key::APPLIED)?.map(|bytes| record::decode_applied(&bytes)).transpose()?;
    let applied = applied.unwrap_or_default();
    let mut voters: BTreeSet<u64> = applied.membership.membership().voter_ids().collect();
    let first = applied.log_id.map_or(0, |log_id| log_id.index + 1);
    for entry in lean_entries(shared, first, u64::MAX)? {
        if let EntryPayload::Membership(membership) = &entry.payload {
            voters.extend(membership.voter_ids());
        }
    }
    Ok(voters.into_iter().eq([member]))
}

fn write_entry(writes: &mut Writes, entry: &Entry) {
    let index = entry.log_id.index;
    if let EntryPayload::Normal(Batch(proposals)) = &entry.payload {
        for (_, payload) in proposals.iter().flat_map(|proposal| &proposal.ops).filter_map(Op::payload) {
            if let Some(sealed) = payload.sealed() {
                writes.put_payload(Key::payload(PayloadRef { index, slot: payload.slot() }), Arc::clone(sealed));
            }
        }
    }
    writes.put(Key::log(index), record::encode_entry(entry));
}

fn lean_entries(shared: &Shared, first: u64, last: u64) -> Result<Vec<Entry>, StorageFailure> {
    let mut entries = Vec::new();
    shared.engine.scan(&Key::log(first), &Key::log(last), |_, bytes| {
        entries.push(record::decode_entry(&bytes)?);
        Ok(Scan::Next)
    })?;
    Ok(entries)
}

fn whole_entries(shared: &Shared, first: u64, last: u64, limit: usize) -> Result<Vec<Entry>, StorageFailure> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut size = 0;
    shared.engine.scan(&Key::log(first), &Key::log(last), |_, bytes| {
        if size > limit {
            return Ok(Scan::Stop);
        }
        let mut entry = record::decode_entry(&bytes)?;
        size += bytes.len() + join_payloads(shared, &mut entry)?;
        entries.push(entry);
        Ok(Scan::Next)
    })?;
    Ok(entries)
}

/// Puts the payloads back into an entry, and returns their size.
fn join_payloads(shared: &Shared, entry: &mut Entry) -> Result<usize, StorageFailure> {
    let EntryPayload::Normal(Batch(proposals)) = &mut entry.payload else { return Ok(0) };
    let mut size = 0;
    let proposals: &mut Vec<Proposal> = Arc::make_mut(proposals);
    for payload in proposals.iter_mut().flat_map(|proposal| &mut proposal.ops).filter_map(Op::payload_mut) {
        let key = Key::payload(PayloadRef { index: entry.log_id.index, slot: payload.slot() });
        let missing = || StorageFailure::Inconsistent { what: format!("{key} is missing") };
        let bytes = shared.engine.get(&key)?.ok_or_else(missing)?;
        size += bytes.len();
        payload.join(Arc::new(decode_payload(bytes)?));
    }
    Ok(size)
}

/// The first and the last index of a range, without what raft has had deleted; `None` when it is empty.
fn kept(shared: &Shared, range: &impl RangeBounds<u64>) -> Option<(u64, u64)> {
    let (first, last) = inclusive(range)?;
    let first = shared.waiting_purge().map_or(first, |purge| first.max(purge.index + 1));
    (first <= last).then_some((first, last))
}

/// The first and the last index of a range; `None` when it is empty.
fn inclusive(range: &impl RangeBounds<u64>) -> Option<(u64, u64)> {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(last) => *last,
        Bound::Excluded(after) => after.checked_sub(1)?,
        Bound::Unbounded => u64::MAX,
    };
    (first <= last).then_some((first, last))
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn read_error(failure: StorageFailure) -> StorageError {
    StorageIOError::read_logs(AnyError::new(&failure)).into()
}
