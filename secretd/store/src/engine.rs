//! Sealed records on disk: one file of the storage engine, one durable commit at a time.
//!
//! Every value is sealed under the node's key with its own key as associated data, so that no record can be read, moved
//! or swapped on the disk; keys tell kinds, ids and indexes, never names. A commit is durable when it returns, and
//! counted ([`Acknowledged`]): a file that lost one is refused when it is opened. After a commit that failed nothing more
//! is written, because what the disk has is then not known.

mod acknowledged;
pub(crate) mod disk;
mod key;
mod open;
mod reseal;
#[cfg(feature = "testing")]
pub(crate) mod simulated;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::{Mutex, RwLock};
use redb::{Database, Durability, ReadableDatabase, TableDefinition, TableError};
use secretd_core::secret::SealedPayload;
use secretd_sealing::at_rest::{Hold, Sealer};
use tokio::sync::watch;
use zeroize::Zeroizing;

use self::acknowledged::Acknowledged;
use self::disk::Disk;
pub(crate) use self::key::Key;
pub use self::open::OpenError;
use crate::failure::StorageFailure;
use crate::record::encode_payload;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// The records of one node.
#[derive(Debug)]
pub(crate) struct Engine {
    database: RwLock<Option<Database>>,
    sealer: Sealer,
    commits: Mutex<Commits>,
    /// How many there were, for who must not wait for one.
    count: AtomicU64,
    failure: watch::Sender<Option<Arc<StorageFailure>>>,
    directory: Utf8PathBuf,
    disk: Arc<dyn Disk>,
    /// Of records that are not sealed anew: the keys that they are under.
    _held: Option<Hold>,
}

#[derive(Debug)]
struct Commits {
    acknowledged: Acknowledged,
    sequence: u64,
}

/// What one commit changes, in order.
#[derive(Debug, Default)]
pub(crate) struct Writes(Vec<Write>);

#[derive(Debug)]
enum Write {
    Put {
        key: Key,
        plaintext: Zeroizing<Vec<u8>>,
    },
    /// Encoded when it is written: the payloads of a batch are in memory once.
    PutPayload {
        key: Key,
        payload: Arc<SealedPayload>,
    },
    Delete {
        key: Key,
    },
    DeleteFrom {
        first: Key,
        last: Key,
    },
}

impl Writes {
    pub(crate) fn put(&mut self, key: Key, plaintext: Vec<u8>) {
        self.0.push(Write::Put { key, plaintext: Zeroizing::new(plaintext) });
    }

    pub(crate) fn put_payload(&mut self, key: Key, payload: Arc<SealedPayload>) {
        self.0.push(Write::PutPayload { key, payload });
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.0.push(Write::Delete { key });
    }

    /// Deletes every record from `first` to `last`, both included.
    pub(crate) fn delete_all(&mut self, first: Key, last: Key) {
        self.0.push(Write::DeleteFrom { first, last });
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An opened record.
pub(crate) type Plaintext = Zeroizing<Vec<u8>>;

impl Engine {
    /// The record at `key`, if there is one.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Plaintext>, StorageFailure> {
        self.read(|table| {
            let Some(sealed) = table.get(key.as_bytes()).map_err(failure("read a record"))? else { return Ok(None) };
            self.unseal(key, sealed.value()).map(Some)
        })
        .map(Option::flatten)
    }

    /// The records from `first` to `last`, both included, in order of their keys, while `wanted` says so. The record for
    /// which it says no is not part of the answer.
    pub(crate) fn scan(
        &self,
        first: &Key,
        last: &Key,
        mut visit: impl FnMut(&Key, Plaintext) -> Result<Scan, StorageFailure>,
    ) -> Result<(), StorageFailure> {
        self.read(|table| {
            let range = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
            for item in table.range::<&[u8]>(range).map_err(failure("scan records"))? {
                let (key, sealed) = item.map_err(failure("scan records"))?;
                let key = Key::from_bytes(key.value());
                let plaintext = self.unseal(&key, sealed.value())?;
                if visit(&key, plaintext)? == Scan::Stop {
                    break;
                }
            }
            Ok(())
        })
        .map(|_| ())
    }

    /// The keys from `first` to `last`, both included.
    pub(crate) fn keys(&self, first: &Key, last: &Key) -> Result<Vec<Key>, StorageFailure> {
        let keys = self.read(|table| {
            let range = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
            let items = table.range::<&[u8]>(range).map_err(failure("scan keys"))?;
            items.map(|item| Ok(Key::from_bytes(item.map_err(failure("scan keys"))?.0.value()))).collect()
        })?;
        Ok(keys.unwrap_or_default())
    }

    /// The greatest key from `first` to `last`, both included.
    pub(crate) fn last_key(&self, first: &Key, last: &Key) -> Result<Option<Key>, StorageFailure> {
        self.read(|table| {
            let range = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
            let mut items = table.range::<&[u8]>(range).map_err(failure("scan keys"))?;
            let last = items.next_back().transpose().map_err(failure("scan keys"))?;
            Ok(last.map(|(key, _)| Key::from_bytes(key.value())))
        })
        .map(Option::flatten)
    }

    /// Writes all of `writes` or none. They are durable when it returns.
    ///
    /// # Errors
    /// The failure of this commit, or the earlier one after which nothing is written any more.
    pub(crate) fn commit(&self, writes: Writes) -> Result<(), Arc<StorageFailure>> {
        self.commit_in(&mut self.commits.lock(), writes)
    }

    fn commit_in(&self, commits: &mut Commits, writes: Writes) -> Result<(), Arc<StorageFailure>> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let sequence = commits.sequence + 1;
        let written = self.write(writes, sequence).and_then(|()| commits.acknowledged.record(&self.sealer, sequence));
        match written {
            Ok(()) => {
                commits.sequence = sequence;
                self.count.store(sequence, Ordering::Release);
                Ok(())
            }
            Err(cause) => Err(self.fail_with(|| cause)),
        }
    }

    /// How many commits there have been in the life of these records.
    pub(crate) fn commits(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The failure after which nothing is written any more.
    pub(crate) fn failure(&self) -> Option<Arc<StorageFailure>> {
        self.failure.borrow().clone()
    }

    /// From now on nothing is written any more, because of `cause` unless there was a failure before. Returns which.
    pub(crate) fn fail_with(&self, cause: impl FnOnce() -> StorageFailure) -> Arc<StorageFailure> {
        if let Some(failure) = self.failure() {
            return failure;
        }
        let failure = Arc::new(cause());
        self.failure.send_replace(Some(Arc::clone(&failure)));
        failure
    }

    /// Waits for the failure after which nothing is written any more.
    pub(crate) async fn failed(&self) -> Arc<StorageFailure> {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            // The sender lives as long as `self`.
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Seals this node's records.
    pub(crate) fn sealer(&self) -> Sealer {
        self.sealer.clone()
    }

    /// Where the records are.
    pub(crate) fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// What the records are on.
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Bytes that may still be written to the disk.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.disk.free_bytes(&self.directory)
    }

    /// Shortens the file to what is in use, and returns by how many bytes. Readers and writers wait meanwhile.
    ///
    /// # Errors
    /// When the disk fails; nothing is written after that.
    pub(crate) fn compact(&self) -> Result<u64, Arc<StorageFailure>> {
        let before = self.free_bytes();
        let mut database = self.database.write();
        let compacted = match database.as_mut() {
            Some(database) => database.compact().map_err(failure("shorten the store's file")),
            None => Err(closed()),
        };
        compacted.map_err(|cause| self.fail_with(|| cause))?;
        Ok(self.free_bytes().saturating_sub(before))
    }

    /// Closes the file: everything after it fails.
    pub(crate) fn close(&self) -> Result<(), StorageFailure> {
        let synced = self.commits.lock().acknowledged.sync();
        // Dropping the database writes its allocator state, so that the next open is quick.
        drop(self.database.write().take());
        synced
    }

    fn write(&self, writes: Writes, sequence: u64) -> Result<(), StorageFailure> {
        const STEP: &str = "write to the store";
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(closed)?;
        let mut transaction = database.begin_write().map_err(failure(STEP))?;
        transaction.set_durability(Durability::Immediate).map_err(failure(STEP))?;
        {
            let mut table = transaction.open_table(RECORDS).map_err(failure(STEP))?;
            for write in writes.0 {
                self.write_one(&mut table, write)?;
            }
            let sealed = self.sealer.seal(Key::SEQUENCE.as_bytes(), &sequence.to_be_bytes())?;
            table.insert(Key::SEQUENCE.as_bytes(), sealed.as_slice()).map_err(failure(STEP))?;
        }
        transaction.commit().map_err(failure(STEP))
    }

    fn write_one(&self, table: &mut redb::Table<'_, &[u8], &[u8]>, write: Write) -> Result<(), StorageFailure> {
        const STEP: &str = "write to the store";
        match write {
            Write::Put { key, plaintext } => {
                let sealed = self.sealer.seal(key.as_bytes(), &plaintext)?;
                table.insert(key.as_bytes(), sealed.as_slice()).map_err(failure(STEP))?;
            }
            Write::PutPayload { key, payload } => {
                let sealed = self.sealer.seal(key.as_bytes(), &encode_payload(&payload))?;
                table.insert(key.as_bytes(), sealed.as_slice()).map_err(failure(STEP))?;
            }
            Write::Delete { key } => {
                table.remove(key.as_bytes()).map_err(failure(STEP))?;
            }
            Write::DeleteFrom { first, last } => {
                let range = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
                table.retain_in::<&[u8], _>(range, |_, _| false).map_err(failure(STEP))?;
            }
        }
        Ok(())
    }

    /// Runs `read` on the records of this moment; `None` when there is no table yet.
    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, StorageFailure>,
    ) -> Result<Option<T>, StorageFailure> {
        const STEP: &str = "read the store";
        // What is read may be older than what is on the disk by then, and under a key that is forgotten meanwhile.
        let _held = self.sealer.hold();
        let database = self.database.read();
        let transaction = database.as_ref().ok_or_else(closed)?.begin_read().map_err(failure(STEP))?;
        match transaction.open_table(RECORDS) {
            Ok(table) => read(&table).map(Some),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failure(STEP)(error)),
        }
    }

    fn unseal(&self, key: &Key, sealed: &[u8]) -> Result<Plaintext, StorageFailure> {
        self.sealer.open(key.as_bytes(), sealed).map_err(|_| StorageFailure::Damaged { what: key.to_string() })
    }
}

#[cfg(test)]
impl Engine {
    pub(crate) fn count_payloads_and_entries(&self) -> (usize, usize) {
        use crate::op::PayloadRef;
        let payloads = self.keys(&Key::payload(PayloadRef::FIRST), &Key::payload(PayloadRef::last_of(u64::MAX)));
        (payloads.unwrap().len(), self.keys(&Key::log(0), &Key::log(u64::MAX)).unwrap().len())
    }
}

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// To the next record.
    Next,
    /// No further.
    Stop,
}

fn closed() -> StorageFailure {
    StorageFailure::Io { step: "use the store", source: std::io::Error::other("it is closed") }
}

/// Translates the engine's errors, of all its kinds.
#[allow(clippy::wildcard_enum_match_arm)] // the engine's enum grows
fn failure<E: Into<redb::Error>>(step: &'static str) -> impl Fn(E) -> StorageFailure {
    move |error| match error.into() {
        redb::Error::Io(source) => StorageFailure::Io { step, source },
        redb::Error::Corrupted(what) => StorageFailure::Damaged { what: format!("of the store's file: {what}") },
        other => StorageFailure::Io { step, source: std::io::Error::other(other.to_string()) },
    }
}

#[cfg(test)]
mod damage_test;
#[cfg(test)]
mod fault_test;
#[cfg(test)]
mod tests;
