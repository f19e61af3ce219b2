//! Key files: read, put in place as a whole, and overwritten before they go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// What is in a key file, if there is one: no more than any of them has.
pub(super) fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(4096).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a whole file or, with an error, nothing: a new name, synced and renamed. It lasts when the directory is synced.
pub(super) fn place(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Overwrites a key file before it goes, as far as the file system lets that mean anything.
pub(super) fn wipe(directory: &Path, path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(4096);
    (&file).write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync(directory)
}

/// Makes durable which files a directory has.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
