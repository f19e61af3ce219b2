//! The disk as the engine sees it: one seam, so that a simulated disk sees every write and every sync.
//!
//! Nothing here decides. What is durable when, and in which order, is said where it is asked for.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use camino::Utf8Path;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageError};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A file that is written in place.
#[allow(unreachable_pub)] // simulations name it
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Reads from `offset` until `bytes` are full or the file ends, and returns how many were read.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes it longer, with zeros, or shorter.
    #[cfg(feature = "testing")]
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything that was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// What the engine asks of the disk.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory and those above it, unless it is there.
    fn create_directory(&self, directory: &Utf8Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_directory(&self, directory: &Utf8Path) -> io::Result<()>;
    /// Makes durable which files a directory has.
    fn sync_directory(&self, directory: &Utf8Path) -> io::Result<()>;
    /// Opens the engine's own file, or makes it, for this process alone.
    fn open_records(&self, engine: &Builder, path: &Utf8Path) -> Result<Database, DatabaseError>;
    /// Opens a file, or makes it.
    fn open(&self, path: &Utf8Path) -> io::Result<Box<dyn DiskFile>>;
    /// The length of the file at `path`.
    fn length(&self, path: &Utf8Path) -> io::Result<u64>;
    /// Makes a file that takes `bytes` of space on the disk, not only in its length.
    fn allocate(&self, path: &Utf8Path, bytes: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Utf8Path) -> io::Result<()>;
    /// Bytes that may still be written; as many as one can count when the file system does not tell.
    fn free_bytes(&self, directory: &Utf8Path) -> u64;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files;

impl Disk for Files {
    fn create_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)
    }

    fn remove_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        std::fs::remove_dir_all(directory)
    }

    fn sync_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn open_records(&self, engine: &Builder, path: &Utf8Path) -> Result<Database, DatabaseError> {
        let file = open(path).map_err(StorageError::Io)?;
        engine.create_with_backend(FileBackend::new(file)?)
    }

    fn open(&self, path: &Utf8Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(open(path)?))
    }

    fn length(&self, path: &Utf8Path) -> io::Result<u64> {
        path.metadata().map(|metadata| metadata.len())
    }

    fn allocate(&self, path: &Utf8Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        // Unlike a hole, allocated blocks are there when they are given up.
        Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn free_bytes(&self, directory: &Utf8Path) -> u64 {
        statvfs(directory.as_std_path()).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

fn open(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    #[cfg(feature = "testing")]
    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
