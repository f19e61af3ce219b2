//! The node's keys on disk: a data key that seals every record, wrapped by a key-encryption key.
//!
//! Now the key-encryption key is a file beside the data (`kek`), as in Docker Swarm without autolock: whoever has the
//! disk has both, and the status says `weak`. What changes the source of the key-encryption key rewrites `dek` alone,
//! never a record.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::SealError;
use crate::at_rest::Sealer;
use crate::secret::Dek;

const KEK_MAGIC: &[u8; 16] = b"secretd kek   1\n";
const DEK_MAGIC: &[u8; 16] = b"secretd dek   1\n";

/// Why a node's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeysError {
    /// A file or directory cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A key file does not have the bytes of one.
    #[error("{} is damaged: restore it from a backup; without it the data beside it cannot be opened", .0.display())]
    Damaged(PathBuf),
    /// One of the two files is there and the other is not.
    #[error("{} is missing, but its counterpart is there: restore it from a backup; without it the data cannot be opened", .0.display())]
    Missing(PathBuf),
    /// No randomness for new keys.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Where the key-encryption key comes from, and what that is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekStatus {
    /// `file`.
    pub source: &'static str,
    /// Whether a stolen disk is useless.
    pub secure: bool,
    /// One line for people.
    pub reason: &'static str,
}

/// The keys of one node.
#[derive(Debug)]
pub struct NodeKeys {
    sealer: Sealer,
}

impl NodeKeys {
    /// Opens the keys in `directory`, or makes them where there are none at all.
    ///
    /// # Errors
    /// When the directory is not usable, or the files are not a pair. A missing file is never made anew beside its
    /// counterpart, nor are both beside the data that they open: that would throw the data away.
    pub fn open_or_create(directory: &Path) -> Result<Self, NodeKeysError> {
        let (kek_path, dek_path) = (directory.join("kek"), directory.join("dek"));
        match (read(&kek_path)?, read(&dek_path)?) {
            (None, None) if is_new(directory) => Self::create(directory, &kek_path, &dek_path),
            (None, None) => Err(NodeKeysError::Missing(kek_path)),
            (Some(kek), Some(dek)) => Self::open(&kek, &dek, &kek_path, &dek_path),
            (None, Some(_)) => Err(NodeKeysError::Missing(kek_path)),
            // The pair is written kek first: a crash in between leaves a key that has never sealed anything.
            (Some(_), None) if is_new(directory) => Self::create(directory, &kek_path, &dek_path),
            (Some(_), None) => Err(NodeKeysError::Missing(dek_path)),
        }
    }

    /// Seals this node's records.
    pub fn sealer(&self) -> Sealer {
        self.sealer.clone()
    }

    /// Where the key-encryption key comes from.
    pub fn status(&self) -> KekStatus {
        KekStatus {
            source: "file",
            secure: false,
            reason: "the key-encryption key is a file beside the data: whoever has the disk can open it",
        }
    }

    fn create(directory: &Path, kek_path: &Path, dek_path: &Path) -> Result<Self, NodeKeysError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| NodeKeysError::Io { path, source }
        };
        fs::create_dir_all(directory).map_err(at(directory))?;
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(at(directory))?;
        if let Some(parent) = directory.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(at(parent))?;
        }
        let (kek, dek) = (Dek::generate().map_err(SealError::from)?, Dek::generate().map_err(SealError::from)?);
        let wrapped = Sealer::new(&kek).seal(DEK_MAGIC, dek.expose())?;
        write(directory, kek_path, KEK_MAGIC, kek.expose()).map_err(at(kek_path))?;
        write(directory, dek_path, DEK_MAGIC, &wrapped).map_err(at(dek_path))?;
        Ok(Self { sealer: Sealer::new(&dek) })
    }

    fn open(kek: &[u8], dek: &[u8], kek_path: &Path, dek_path: &Path) -> Result<Self, NodeKeysError> {
        let kek = kek.strip_prefix(KEK_MAGIC).and_then(|key| key.try_into().ok());
        let kek = Dek::from_bytes(kek.ok_or_else(|| NodeKeysError::Damaged(kek_path.to_owned()))?);
        let damaged = || NodeKeysError::Damaged(dek_path.to_owned());
        let wrapped = dek.strip_prefix(DEK_MAGIC).ok_or_else(damaged)?;
        let dek = Sealer::new(&kek).open(DEK_MAGIC, wrapped).map_err(|_| damaged())?;
        let dek = Dek::from_bytes(dek.as_slice().try_into().map_err(|_| damaged())?);
        Ok(Self { sealer: Sealer::new(&dek) })
    }
}

/// Whether the data directory holds no records yet.
fn is_new(directory: &Path) -> bool {
    !directory.parent().is_some_and(|data| data.join("store").exists())
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, NodeKeysError> {
    let at = |source| NodeKeysError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(error)),
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(4096).read_to_end(&mut bytes).map_err(at)?;
    Ok(Some(bytes))
}

/// Writes a whole file or none: a new name, synced, renamed, and the directory synced.
fn write(directory: &Path, path: &Path, magic: &[u8], key: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(magic)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        let sealed = NodeKeys::open_or_create(&keys).unwrap().sealer().seal(b"here", b"record").unwrap();

        let opened = NodeKeys::open_or_create(&keys).unwrap().sealer().open(b"here", &sealed).unwrap();

        assert_eq!(opened.as_slice(), b"record");
        for (path, mode) in [(keys.clone(), 0o40700), (keys.join("kek"), 0o100_600), (keys.join("dek"), 0o100_600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode(), mode);
        }
    }

    #[test]
    fn missing_or_damaged_file_is_named_and_never_replaced() {
        let data = tempfile::tempdir().unwrap();
        let keys = data.path().join("keys");
        NodeKeys::open_or_create(&keys).unwrap();
        fs::create_dir(data.path().join("store")).unwrap();
        for name in ["kek", "dek"] {
            let kept = fs::read(keys.join(name)).unwrap();

            fs::remove_file(keys.join(name)).unwrap();
            assert!(
                matches!(NodeKeys::open_or_create(&keys), Err(NodeKeysError::Missing(path)) if path.ends_with(name))
            );
            for at in 0..kept.len() {
                let mut damaged = kept.clone();
                damaged[at] ^= 1;
                fs::write(keys.join(name), &damaged).unwrap();
                assert!(matches!(NodeKeys::open_or_create(&keys), Err(NodeKeysError::Damaged(_))), "{name} {at}");
                fs::write(keys.join(name), &kept[..at]).unwrap();
                assert!(
                    matches!(NodeKeys::open_or_create(&keys), Err(NodeKeysError::Damaged(_))),
                    "{name} cut at {at}"
                );
            }
            fs::write(keys.join(name), &kept).unwrap();
        }
        assert!(NodeKeys::open_or_create(&keys).is_ok());
    }
}
