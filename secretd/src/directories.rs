//! The data and run directories: made with the right modes, held by one secretd at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};

/// Why the directories cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// Another secretd holds it.
    #[error("data directory {path} is used by another secretd (process {pid}): stop it, or give another --data-dir")]
    Locked {
        /// The data directory.
        path: Utf8PathBuf,
        /// What the holder wrote.
        pid: String,
    },
    /// It cannot be written.
    #[error(
        "{path} cannot be written: {source}: is the file system mounted read-only, or full? Mend it, or give another directory"
    )]
    NotWritable {
        /// Which file or directory.
        path: Utf8PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// The data directory, locked for this process as long as this lives.
#[derive(Debug)]
pub(crate) struct Directories {
    /// Kept open: the lock (flock(2)) goes with it.
    _lock: File,
}

impl Directories {
    /// Makes and locks the directories.
    pub(crate) fn open(data: &Utf8Path, run: &Utf8Path) -> Result<Self, DirectoryError> {
        make(data, 0o700)?;
        make(run, 0o711)?; // members of the group must reach the control socket in it
        make(&run.join("tasks"), 0o700)?;
        Ok(Self { _lock: lock(data)? })
    }
}

fn make(path: &Utf8Path, mode: u32) -> Result<(), DirectoryError> {
    let refused = |source| DirectoryError::NotWritable { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(refused)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(refused)
}

fn lock(data: &Utf8Path) -> Result<File, DirectoryError> {
    let path = data.join("lock");
    let refused = |source| DirectoryError::NotWritable { path: path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(refused)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid); // what is not readable is not shown
        return Err(DirectoryError::Locked { path: data.to_owned(), pid: pid.trim().to_owned() });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(refused)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(directory: &tempfile::TempDir) -> (Utf8PathBuf, Utf8PathBuf) {
        let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        (root.join("d"), root.join("r"))
    }

    #[test]
    fn data_directory_has_one_user_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let (data, run) = paths(&directory);
        let first = Directories::open(&data, &run).unwrap();

        let second = Directories::open(&data, &run);
        assert!(matches!(&second, Err(DirectoryError::Locked { pid, .. }) if *pid == std::process::id().to_string()));

        drop(first);
        assert!(Directories::open(&data, &run).is_ok());
    }
}
