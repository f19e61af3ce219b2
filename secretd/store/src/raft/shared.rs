//! What log and state machine have in common: the engine, the published state, and the state's writes that wait for the
//! next durable commit.
//!
//! Writes of the state are never synced by themselves: many together travel in the commit of a log entry. When a crash
//! loses them, the log since then is applied again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::engine::{Engine, Key, Writes};
use crate::failure::StorageFailure;
use crate::op::PayloadRef;
use crate::raft::config::{Entry, LogId};
use crate::raft::snapshot::{Pins, StateSnapshot};
use crate::raft::witness::Witness;
use crate::record::encode_log_id;
use crate::watch::Publisher;

/// Records of the state that wait at most: a commit without them touches about half as many pages of the file, and after
/// a crash no more than these are made again from the log.
const STAGED_RECORDS: usize = 256;

/// One node's store, below raft.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) pins: Pins,
    pub(crate) witness: Arc<Witness>,
    /// Whether entries were appended since what is known of others was written down in a commit of its own.
    appended: AtomicBool,
    staged: Mutex<BTreeMap<Key, Option<Zeroizing<Vec<u8>>>>>,
    /// Up to which entry the state has come.
    applied: AtomicU64,
    /// Entries that raft does without once the snapshot is installed that it has been given.
    purge: Mutex<Option<LogId>>,
    /// How often entries that another leader did not have were taken back.
    truncations: AtomicU64,
    /// The entries of the last append, as they are on the disk: a leader is about to send and to apply them.
    recent: Mutex<Vec<Entry>>,
}

impl Shared {
    pub(crate) fn new(engine: Arc<Engine>, publisher: Arc<Publisher>, witness: Arc<Witness>) -> Self {
        Self {
            engine,
            publisher,
            pins: Pins::default(),
            witness,
            appended: AtomicBool::new(false),
            staged: Mutex::default(),
            applied: AtomicU64::new(0),
            purge: Mutex::default(),
            truncations: AtomicU64::new(0),
            recent: Mutex::default(),
        }
    }

    /// What was just written, and must not be read and opened for each who asks for it.
    pub(crate) fn set_recent(&self, entries: Vec<Entry>) {
        *self.recent.lock() = entries;
    }

    /// The entries from `first` to `last`, both included, with their payloads, when the last append brought them.
    pub(crate) fn recent(&self, first: u64, last: u64) -> Option<Vec<Entry>> {
        let recent = self.recent.lock();
        let start = recent.first()?.log_id.index;
        let range =
            usize::try_from(first.checked_sub(start)?).ok()?..=usize::try_from(last.checked_sub(start)?).ok()?;
        recent.get(range).map(<[Entry]>::to_vec)
    }

    /// The state has come up to this entry.
    pub(crate) fn set_applied(&self, last: Option<LogId>) {
        self.applied.store(last.map_or(0, |log_id| log_id.index), Ordering::Relaxed);
    }

    /// Deletes entries up to `last` from the log. Those that the state does not have yet wait for the snapshot that has
    /// them: raft asks for both at once, and a log without them, and without it, could never be opened again.
    pub(crate) fn purge(&self, last: LogId) -> Result<(), Arc<StorageFailure>> {
        if last.index > self.applied.load(Ordering::Relaxed) {
            *self.purge.lock() = Some(last);
            return Ok(());
        }
        self.commit(self.purge_writes(last)?)
    }

    /// The last entry that is to be deleted with the installation of a snapshot: raft takes it for deleted.
    pub(crate) fn waiting_purge(&self) -> Option<LogId> {
        *self.purge.lock()
    }

    /// What is to be deleted with the installation of a snapshot up to `last`.
    pub(crate) fn delayed_purge(&self, last: u64) -> Result<Writes, StorageFailure> {
        let delayed = self.purge.lock().take_if(|purge| purge.index <= last);
        delayed.map_or_else(|| Ok(Writes::default()), |purge| self.purge_writes(purge))
    }

    fn purge_writes(&self, last: LogId) -> Result<Writes, StorageFailure> {
        let mut writes = self.garbage_writes(last.index)?;
        writes.put(Key::PURGED, encode_log_id(last));
        writes.delete_all(Key::log(0), Key::log(last.index));
        Ok(writes)
    }

    /// How often the end of the log was taken back. Read and written on the store's thread.
    pub(crate) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Relaxed)
    }

    /// Takes back the end of the log: another leader has others in its place.
    pub(crate) fn truncate(&self, writes: Writes) -> Result<(), Arc<StorageFailure>> {
        self.truncations.fetch_add(1, Ordering::Relaxed);
        self.commit(writes)
    }

    /// Leaves a record (or its removal, `None`) for a later commit. A later one for the same key replaces it.
    pub(crate) fn stage(&self, records: impl IntoIterator<Item = (Key, Option<Vec<u8>>)>) {
        let records = records.into_iter().map(|(key, record)| (key, record.map(Zeroizing::new)));
        self.staged.lock().extend(records);
    }

    /// Notes payloads that no state refers to any more; [`Shared::garbage_writes`] deletes them when their log entry goes.
    pub(crate) fn stage_garbage(&self, payloads: impl IntoIterator<Item = PayloadRef>) {
        self.stage(payloads.into_iter().map(|at| (Key::garbage(at), Some(Vec::new()))));
    }

    /// Commits log entries, and with them what is staged when that has become much.
    pub(crate) fn append(&self, entries: Writes) -> Result<(), Arc<StorageFailure>> {
        self.appended.store(true, Ordering::Relaxed);
        let much = self.staged.lock().len() >= STAGED_RECORDS;
        if much {
            return self.commit(entries);
        }
        let mut entries = entries;
        if let Some((key, known)) = self.witness.take_changed() {
            entries.put(key, known);
        }
        self.engine.commit(entries)
    }

    /// Writes down what is known of others, once after entries were appended: a commit is seen by the others, who write it
    /// down too, and that must come to an end.
    pub(crate) fn keep_witness(&self) -> Result<(), Arc<StorageFailure>> {
        if !self.appended.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let Some((key, known)) = self.witness.take_changed() else { return Ok(()) };
        let mut writes = Writes::default();
        writes.put(key, known);
        self.engine.commit(writes)
    }

    /// Commits `writes` after everything that is staged.
    pub(crate) fn commit(&self, writes: Writes) -> Result<(), Arc<StorageFailure>> {
        let mut all = Writes::default();
        for (key, record) in std::mem::take(&mut *self.staged.lock()) {
            match record {
                Some(mut plaintext) => all.put(key, std::mem::take(&mut *plaintext)),
                None => all.delete(key),
            }
        }
        if let Some((key, known)) = self.witness.take_changed() {
            all.put(key, known);
        }
        all.append(writes);
        if all.is_empty() { Ok(()) } else { self.engine.commit(all) }
    }

    /// The state as it is now. Its payloads are kept while it lives. Called on the store's thread alone: the state must not
    /// change before its payloads are known to be wanted.
    pub(crate) fn snapshot(&self) -> StateSnapshot {
        let snapshot = StateSnapshot { view: Arc::new(self.publisher.view()), source: Arc::clone(&self.engine) };
        self.pins.add(&snapshot);
        snapshot
    }

    /// Deletes the payloads of log entries up to `last` that no state and no snapshot refers to, as far as a commit has
    /// noted them.
    fn garbage_writes(&self, last: u64) -> Result<Writes, StorageFailure> {
        let mut writes = Writes::default();
        let garbage = self.engine.keys(&Key::garbage(PayloadRef::FIRST), &Key::garbage(PayloadRef::last_of(last)))?;
        if garbage.is_empty() {
            return Ok(writes);
        }
        let pinned = self.pins.payloads();
        for key in garbage {
            if let Some(at) = key.garbage_ref().filter(|at| !pinned.contains(at)) {
                writes.delete(Key::payload(at));
                writes.delete(key);
            }
        }
        Ok(writes)
    }
}
