//! A file that is written whole or not at all. Until it is whole it has a name of its own beside its place, and it goes
//! with whoever gives up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use secretd_proto::code::Code;
use secretd_proto::id::WorkId;

use crate::failure::Failure;

/// A file that does not have its name yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    /// The temporary name is no more.
    is_in_place: bool,
}

impl NewFile {
    /// Begins what shall be at `path`, for one at a time; its owner alone can read it.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        Self::begin_as(path, ".partial")
    }

    /// Begins what shall replace the file at `path`, whoever does so at the same time.
    pub(crate) fn begin_replacing(path: &Path) -> io::Result<Self> {
        Self::begin_as(path, &format!(".new-{}", WorkId::random()))
    }

    fn begin_as(path: &Path, suffix: &str) -> io::Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(suffix);
        let temporary = PathBuf::from(temporary);
        // What is there is neither written to nor followed, whoever has put it there.
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = opened.map_err(|error| match error.kind() == io::ErrorKind::AlreadyExists {
            true => io::Error::new(error.kind(), occupied(&temporary)),
            false => error,
        })?;
        Ok(Self { file, temporary, path: path.to_owned(), is_in_place: false })
    }

    /// What to write to.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, and replaces what has it.
    pub(crate) fn replace(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        self.is_in_place = true;
        Ok(())
    }

    /// Gives the file its name, unless another has it. Both are on the disk when this returns.
    pub(crate) fn put(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        match renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL) => self.link()?,
            renamed => {
                renamed?;
                self.is_in_place = true;
            }
        }
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = File::open(directory.unwrap_or_else(|| Path::new("."))).and_then(|directory| directory.sync_all());
        synced.inspect_err(|_| drop(fs::remove_file(&self.path))) // a name that may not last is none
    }

    /// The same on file systems that cannot rename without replacing: those of networks.
    fn link(&mut self) -> io::Result<()> {
        match fs::hard_link(&self.temporary, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => {
                fs::rename(&self.temporary, &self.path)?; // they have no second names either
                self.is_in_place = true;
                Ok(())
            }
            Ok(()) => Ok(()), // the temporary name goes with this
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_in_place {
            let _ = fs::remove_file(&self.temporary); // why it is given up is told
        }
    }
}

/// Writes a whole file to a name that is free.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = NewFile::begin(path).and_then(|new| {
        let mut file = new.file();
        file.write_all(bytes)?;
        new.put()
    });
    written.map_err(|error| failed(path, &error))
}

/// Whether [`write()`] can begin: to be asked before anything is made that could not be kept.
pub(crate) fn check_place(path: &Path) -> Result<(), Failure> {
    check_free(path)?;
    NewFile::begin(path).map(drop).map_err(|error| failed(path, &error))
}

/// Refuses a name that is taken, be it by a link that leads nowhere.
pub(crate) fn check_free(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(taken(path)),
        Err(_) => Ok(()), // what else hinders is told when it is written
    }
}

/// Why a file could not be written.
pub(crate) fn failed(path: &Path, error: &io::Error) -> Failure {
    match (error.kind() == io::ErrorKind::AlreadyExists, error.get_ref()) {
        (true, Some(occupied)) => Failure::new(Code::NameConflict, occupied),
        (true, None) => taken(path),
        (false, _) => Failure::failed(format!("cannot write {}: {error}", path.display())),
    }
}

fn occupied(temporary: &Path) -> String {
    format!("{} already exists: another command writes it, or was killed: wait, or remove it", temporary.display())
}

fn taken(path: &Path) -> Failure {
    let message = format!("{} already exists: remove it, or give another name", path.display());
    Failure::new(Code::NameConflict, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn begun(path: &Path, text: &str) -> NewFile {
        let new = NewFile::begin(path).unwrap();
        let mut file = new.file();
        file.write_all(text.as_bytes()).unwrap();
        new
    }

    #[test]
    fn of_two_at_once_the_first_is_whole_and_the_other_is_told_and_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        let first = begun(&path, "first");
        let at_once = failed(&path, &NewFile::begin(&path).unwrap_err());
        assert_eq!(at_once.exit, 4);
        assert!(at_once.message.contains("backup.partial already exists: another command writes it"), "{at_once}");

        first.put().unwrap();
        let refused = failed(&path, &begun(&path, "second, and longer").put().unwrap_err());

        assert_eq!((refused.exit, refused.code.as_str()), (4, "name-conflict"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), ["backup"]);
    }

    #[test]
    fn where_nothing_can_be_renamed_without_replacing_nothing_is_replaced_either() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        let mut first = begun(&path, "first");
        first.link().unwrap();
        drop(first);
        let mut second = begun(&path, "second");
        assert_eq!(second.link().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(directory.path()), ["backup"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        drop(begun(&path, "half"));
        check_place(&path).unwrap();
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn link_that_leads_nowhere_takes_a_name_and_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (directory.path().join("backup"), directory.path().join("elsewhere"));
        symlink(&elsewhere, &path).unwrap();
        for refused in [check_free(&path), check_place(&path), write(&path, b"x")] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.exit, 4);
            assert!(refused.message.ends_with("already exists: remove it, or give another name"), "{refused}");
        }
        assert_eq!(names(directory.path()), ["backup"]);
    }
}
