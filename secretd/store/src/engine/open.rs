//! Opening the records of a directory: lock, check, compare with what was acknowledged.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, StorageError};
use secretd_sealing::at_rest::Sealer;
use tokio::sync::watch;

use super::acknowledged::{Acknowledged, Count};
use super::disk::{Disk, Files};
use super::{Commits, Engine, Key, Writes};
use crate::failure::StorageFailure;
use crate::raft::witness::RolledBack;

const FILE: &str = "records.redb";
/// Records are read from the page cache of the kernel; this one only spares system calls.
const CACHE_BYTES: usize = 1024 * 1024;
/// Raised when records change so that an older secretd must not read them.
const FORMAT: u64 = 1;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store in {directory} is used by another secretd: stop that one, or choose another data directory")]
    Locked {
        /// The store's directory.
        directory: Utf8PathBuf,
    },
    /// The directory cannot be written to.
    #[error("the store in {directory} is not writable: mount the file system writable, or correct the owner and mode")]
    NotWritable {
        /// The store's directory.
        directory: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("the disk that holds {directory} is full: free some space")]
    Full {
        /// The store's directory.
        directory: Utf8PathBuf,
    },
    /// A record or the file is not what was written.
    #[error("the store in {directory} is damaged: restore the data directory from a copy")]
    Damaged {
        /// The store's directory.
        directory: Utf8PathBuf,
        /// What is damaged.
        #[source]
        source: StorageFailure,
    },
    /// The records are sealed under another key.
    #[error(
        "the store in {directory} does not open with this node's key: restore the `keys` directory that belongs to it"
    )]
    OtherKey {
        /// The store's directory.
        directory: Utf8PathBuf,
    },
    /// Writes that were acknowledged are not there.
    #[error(
        "the store in {directory} has lost acknowledged writes ({found} of {acknowledged} are there): restore the data directory from a copy"
    )]
    LostWrites {
        /// The store's directory.
        directory: Utf8PathBuf,
        /// Commits that were acknowledged.
        acknowledged: u64,
        /// Commits that are there.
        found: u64,
    },
    /// It was found to be older than it was.
    #[error("{0}")]
    RolledBack(RolledBack),
    /// A newer secretd wrote it.
    #[error("the store in {directory} has format {found}, this secretd knows {known}: use the newer secretd")]
    NewerFormat {
        /// The store's directory.
        directory: Utf8PathBuf,
        /// What is written there.
        found: u64,
        /// What this program knows.
        known: u64,
    },
    /// The disk does not answer.
    #[error("the store in {directory} cannot be opened")]
    Storage {
        /// The store's directory.
        directory: Utf8PathBuf,
        /// What failed.
        #[source]
        source: Arc<StorageFailure>,
    },
    /// The thread that writes cannot be started.
    #[error("the store's thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// Raft refuses the log.
    #[error("the store in {directory} cannot be taken up again: {reason}")]
    Raft {
        /// The store's directory.
        directory: Utf8PathBuf,
        /// What raft said.
        reason: String,
    },
}

impl OpenError {
    /// What a failure of the disk means to the one who opens.
    pub(crate) fn of_failure(directory: &Utf8Path, source: Arc<StorageFailure>) -> Self {
        let directory = directory.to_owned();
        if source.is_full() { Self::Full { directory } } else { Self::Storage { directory, source } }
    }
}

impl Engine {
    /// Opens the records in `directory`, which is created when it is not there.
    pub(crate) fn open(directory: &Utf8Path, sealer: Sealer) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(Files), directory, sealer)
    }

    /// As [`Engine::open`], on another disk.
    pub(crate) fn open_in(disk: Arc<dyn Disk>, directory: &Utf8Path, sealer: Sealer) -> Result<Self, OpenError> {
        disk.create_directory(directory).map_err(|source| refused(directory, "create the directory", source))?;
        let database = disk.open_records(&builder(), &directory.join(FILE));
        let database = database.map_err(|error| database_error(directory, error))?;
        Self::opened(database, disk, directory, sealer)
    }

    /// As [`Engine::open_in`], for records that [`Engine::reseal`] is never asked for: the keys that they are under are
    /// kept for as long as this lives.
    pub(crate) fn open_apart(disk: Arc<dyn Disk>, directory: &Utf8Path, sealer: Sealer) -> Result<Self, OpenError> {
        let held = Some(sealer.hold());
        Ok(Self { _held: held, ..Self::open_in(disk, directory, sealer)? })
    }

    /// As [`Engine::open`], with the store's file wherever `backend` has it.
    #[cfg(test)]
    pub(crate) fn open_on(
        backend: impl redb::StorageBackend,
        directory: &Utf8Path,
        sealer: Sealer,
    ) -> Result<Self, OpenError> {
        let database = builder().create_with_backend(backend).map_err(|error| database_error(directory, error))?;
        Self::opened(database, Arc::new(Files), directory, sealer)
    }

    fn opened(
        database: Database,
        disk: Arc<dyn Disk>,
        directory: &Utf8Path,
        sealer: Sealer,
    ) -> Result<Self, OpenError> {
        let opened = Acknowledged::open(&*disk, directory, &sealer);
        let (acknowledged, count) = opened.map_err(|source| refused(directory, "open the count of commits", source))?;
        let engine = Self {
            database: RwLock::new(Some(database)),
            sealer,
            commits: Mutex::new(Commits { acknowledged, sequence: 0 }),
            count: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            directory: directory.to_owned(),
            disk,
            _held: None,
        };
        engine.check(count)?;
        engine.count.store(engine.commits.lock().sequence, Ordering::Release);
        Ok(engine)
    }

    fn check(&self, count: Count) -> Result<(), OpenError> {
        let directory = &self.directory;
        let damaged = |source| OpenError::Damaged { directory: directory.clone(), source };
        let found = self.number(&Key::SEQUENCE).map_err(|source| match source {
            StorageFailure::Damaged { .. } => OpenError::OtherKey { directory: directory.clone() },
            StorageFailure::Io { .. } | StorageFailure::Inconsistent { .. } | StorageFailure::Seal(_) => {
                OpenError::Storage { directory: directory.clone(), source: Arc::new(source) }
            }
        })?;
        let inconsistent = |what: &str| damaged(StorageFailure::Inconsistent { what: what.to_owned() });
        match (found, count) {
            // Nothing but the founding records is there: nothing was ever acknowledged.
            (None | Some(1), Count::Absent) => return self.found(),
            (Some(_), Count::Absent) => return Err(inconsistent("the count of commits is missing")),
            (_, Count::Damaged) => return Err(inconsistent("the count of commits is damaged")),
            (found, Count::Commits(acknowledged)) if found.unwrap_or_default() < acknowledged => {
                let found = found.unwrap_or_default();
                return Err(OpenError::LostWrites { directory: directory.clone(), acknowledged, found });
            }
            (found, Count::Commits(_)) => self.commits.lock().sequence = found.unwrap_or_default(),
        }
        match self.number(&Key::FORMAT).map_err(damaged)? {
            Some(found) if found > FORMAT => {
                Err(OpenError::NewerFormat { directory: directory.clone(), found, known: FORMAT })
            }
            Some(_) => Ok(()),
            None => Err(inconsistent("its format is missing")),
        }
    }

    /// Writes the first records of a new store.
    fn found(&self) -> Result<(), OpenError> {
        let mut writes = Writes::default();
        writes.put(Key::FORMAT, FORMAT.to_be_bytes().to_vec());
        let storage = |source| OpenError::of_failure(&self.directory, Arc::new(source));
        self.write(writes, 1).map_err(storage)?;
        let mut commits = self.commits.lock();
        commits.acknowledged.record(&self.sealer, 1).map_err(storage)?;
        commits.acknowledged.sync().map_err(storage)?;
        commits.sequence = 1;
        let synced = self.disk.sync_directory(&self.directory);
        synced.map_err(|source| storage(StorageFailure::Io { step: "sync the directory", source }))
    }

    /// A record that is a number.
    pub(crate) fn number(&self, key: &Key) -> Result<Option<u64>, StorageFailure> {
        let Some(bytes) = self.get(key)? else { return Ok(None) };
        let number = bytes.as_slice().try_into().map(u64::from_be_bytes);
        number.map(Some).map_err(|_| StorageFailure::Damaged { what: key.to_string() })
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

#[allow(clippy::wildcard_enum_match_arm)] // the system has many more kinds
pub(super) fn refused(directory: &Utf8Path, step: &'static str, source: std::io::Error) -> OpenError {
    let directory = directory.to_owned();
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => OpenError::NotWritable { directory, source },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::Full { directory },
        _ => OpenError::Storage { directory, source: Arc::new(StorageFailure::Io { step, source }) },
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // the engine's enum grows
fn database_error(directory: &Utf8Path, error: DatabaseError) -> OpenError {
    const STEP: &str = "open the store's file";
    let damaged = |what: String| OpenError::Damaged {
        directory: directory.to_owned(),
        source: StorageFailure::Damaged { what: format!("of the store's file: {what}") },
    };
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { directory: directory.to_owned() },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == ErrorKind::InvalidData => {
            damaged(source.to_string())
        }
        DatabaseError::Storage(StorageError::Io(source)) => refused(directory, STEP, source),
        DatabaseError::Storage(StorageError::Corrupted(what)) => damaged(what),
        other => damaged(other.to_string()),
    }
}
