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
    /// It cannot be made or written.
    #[error("{path} cannot be used: {source}: {}", advice(.source))]
    Unusable {
        /// Which file or directory.
        path: Utf8PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// What to do about it.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::{AlreadyExists, NotADirectory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kind = error.kind();
    match () {
        () if kind == ReadOnlyFilesystem => "mount the file system writable, or give another directory",
        () if [StorageFull, QuotaExceeded].contains(&kind) => "free some space, or give another directory",
        () if [AlreadyExists, NotADirectory].contains(&kind) => "it is no directory: give another one",
        () => "give a directory that root may write to",
    }
}

/// The data directory, locked for this process as long as this lives.
#[derive(Debug)]
pub(crate) struct Directories {
    /// Kept open: the lock (flock(2)) goes with it.
    _lock: File,
    made: Made,
}

/// What was not there before. It is removed again, where it is still empty, by a start that fails.
#[derive(Debug, Default)]
struct Made(Vec<Utf8PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        }
    }
}

impl Directories {
    /// Makes and locks the directories. Until [`Directories::keep`], dropping this removes what it has made.
    pub(crate) fn open(data: &Utf8Path, run: &Utf8Path) -> Result<Self, DirectoryError> {
        let mut made = Made::default();
        make(data, 0o700, "lock", &mut made)?;
        let lock = lock(data, &mut made)?;
        make(run, 0o711, "tasks", &mut made)?; // members of the group must reach the control socket in it
        make(&run.join("tasks"), 0o700, "", &mut made)?;
        Ok(Self { _lock: lock, made })
    }

    /// The start has come so far that the directories stay.
    pub(crate) fn keep(&mut self) {
        self.made.0.clear();
    }
}

/// Makes the directory, or takes one that is there. One with things of others in it, such as /tmp, keeps its mode: `mark`
/// is what every secretd leaves in its own.
fn make(path: &Utf8Path, mode: u32, mark: &str, made: &mut Made) -> Result<(), DirectoryError> {
    let refused = |source| DirectoryError::Unusable { path: path.to_owned(), source };
    // Parents are for everybody, as others have things beside ours; the umask would close them.
    let missing: Vec<&Utf8Path> = path.ancestors().take_while(|path| !path.exists() && *path != "").collect();
    for directory in missing.into_iter().rev() {
        std::fs::DirBuilder::new().mode(mode).create(directory).map_err(refused)?;
        made.0.push(directory.to_owned());
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).map_err(refused)?;
    }
    if !path.is_dir() {
        return Err(refused(io::ErrorKind::NotADirectory.into()));
    }
    let is_empty = std::fs::read_dir(path).map_err(refused)?.next().is_none();
    if is_empty || path.join(mark).exists() {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(refused)?;
    }
    Ok(())
}

fn lock(data: &Utf8Path, made: &mut Made) -> Result<File, DirectoryError> {
    let path = data.join("lock");
    let refused = |source| DirectoryError::Unusable { path: path.clone(), source };
    let is_new = !path.exists();
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
    if is_new {
        made.0.push(path.clone());
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

    #[test]
    fn start_that_fails_leaves_nothing_that_was_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let (data, run) = paths(&directory);
        drop(Directories::open(&data, &run).unwrap());
        assert!(!data.exists() && !run.exists());

        std::fs::create_dir(&data).unwrap();
        std::fs::write(&run, "a file").unwrap();
        let refused = Directories::open(&data, &run).unwrap_err().to_string();
        assert!(refused.contains("it is no directory"), "{refused}");
        assert!(data.exists() && std::fs::read_dir(&data).unwrap().next().is_none());
    }

    #[test]
    fn directory_with_things_of_others_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (data, run) = paths(&directory);
        let mode = |path: &Utf8Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        std::fs::create_dir_all(data.join("other")).unwrap();
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o1777)).unwrap();

        let _held = Directories::open(&data, &run).unwrap();

        assert_eq!((mode(&data), mode(&run)), (0o1777, 0o711));
    }

    #[test]
    fn parents_that_are_made_are_for_everybody_and_go_with_a_start_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let (data, run) = paths(&directory);
        let mode = |path: &Utf8Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;

        let held = Directories::open(&data.join("deep/d"), &run.join("deep/r")).unwrap();

        assert_eq!((mode(&data), mode(&data.join("deep")), mode(&data.join("deep/d"))), (0o755, 0o755, 0o700));
        assert_eq!(mode(&run.join("deep/r")), 0o711);
        drop(held);
        assert!(!data.exists() && !run.exists());
    }

    #[test]
    fn start_that_goes_well_keeps_them() {
        let directory = tempfile::tempdir().unwrap();
        let (data, run) = paths(&directory);
        Directories::open(&data, &run).unwrap().keep();

        assert!(data.join("lock").is_file() && run.join("tasks").is_dir());
    }
}
