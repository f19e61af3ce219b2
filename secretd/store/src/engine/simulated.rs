//! The engine on a simulated disk, and its records as the disk has them.

use std::fmt;
use std::io;
use std::sync::Arc;

use camino::Utf8Path;
use redb::{Builder, Database, DatabaseError, ReadableTable, StorageBackend, StorageError};

use super::disk::{Disk, DiskFile};
use super::{Engine, failure};
use crate::failure::StorageFailure;
use crate::simulation::SimulatedDisk;

/// A simulated disk, as the engine asks for one.
#[derive(Debug)]
pub(crate) struct Simulated(pub(crate) Arc<dyn SimulatedDisk>);

/// The engine's own file on it.
struct Records(Box<dyn DiskFile>);

impl Disk for Simulated {
    fn create_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        self.0.create_directory(directory)
    }

    fn remove_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        self.0.remove_directory(directory)
    }

    fn sync_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn open_records(&self, engine: &Builder, path: &Utf8Path) -> Result<Database, DatabaseError> {
        engine.create_with_backend(Records(self.0.open(path).map_err(StorageError::Io)?))
    }

    fn open(&self, path: &Utf8Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(path)
    }

    fn length(&self, path: &Utf8Path) -> io::Result<u64> {
        self.0.open(path)?.length()
    }

    fn allocate(&self, path: &Utf8Path, bytes: u64) -> io::Result<()> {
        self.0.open(path)?.set_length(bytes)
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn free_bytes(&self, _: &Utf8Path) -> u64 {
        self.0.free_bytes()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records(..)")
    }
}

impl StorageBackend for Records {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.0.read_at(out, offset)?;
        if read == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}

/// A key, and what it is sealed to.
pub type SealedRecord = (Vec<u8>, Vec<u8>);

impl Engine {
    /// Every record as it is on the disk: sealed.
    pub(crate) fn sealed_records(&self) -> Result<Vec<SealedRecord>, StorageFailure> {
        let records = self.read(|table| {
            let records = table.iter().map_err(failure("scan records"))?;
            let sealed = records.map(|record| {
                let (key, value) = record.map_err(failure("scan records"))?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            });
            sealed.collect()
        })?;
        Ok(records.unwrap_or_default())
    }
}
