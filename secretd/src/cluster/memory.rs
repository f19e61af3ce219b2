//! What this node has seen of its cluster: a small file, sealed under the node's data key.
//!
//! It is written without waiting for the disk, several times a second while the cluster changes: it survives a killed
//! process, and after a lost power supply it may be behind, which refuses nothing.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use prost::Message;
use secretd_proto::v1;
use secretd_sealing::at_rest::Sealer;

/// The file's name in the data directory.
const NAME: &str = "seen";
/// What it is, for the seal.
const KIND: &[u8] = b"secretd seen 1";

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    path: Utf8PathBuf,
    sealer: Sealer,
}

impl Memory {
    pub(crate) fn new(data: &Utf8Path, sealer: Sealer) -> Self {
        Self { path: data.join(NAME), sealer }
    }

    /// What was kept; nothing where that cannot be read, which is told.
    pub(crate) fn load(&self) -> v1::StoredSeen {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return v1::StoredSeen::default(),
            Err(error) => return self.unread(&error),
        };
        let opened = self.sealer.open(KIND, &bytes);
        match opened.map(|plain| v1::StoredSeen::decode(plain.as_slice())) {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => self.unread(&error),
            Err(error) => self.unread(&error),
        }
    }

    fn unread(&self, why: &dyn std::fmt::Display) -> v1::StoredSeen {
        tracing::warn!("{}: {why}: a manager that was rolled back will not be noticed by what it says", self.path);
        v1::StoredSeen::default()
    }

    /// Keeps what is known now.
    pub(crate) fn keep(&self, seen: &v1::StoredSeen) {
        let kept = self.sealer.seal(KIND, &seen.encode_to_vec()).map_err(io::Error::other).and_then(|sealed| {
            let new = self.path.with_extension("new");
            fs::write(&new, sealed)?;
            fs::rename(&new, &self.path)
        });
        if let Err(error) = kept {
            tracing::warn!("{}: what was seen of the cluster cannot be kept: {error}", self.path);
        }
    }

    /// The node is part of no cluster any more.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn remove(data: &Utf8Path) -> io::Result<()> {
        match fs::remove_file(data.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_kept_sealed_and_damage_is_as_if_nothing_was() {
        let directory = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(directory.path()).unwrap();
        let memory = Memory::new(data, Sealer::new(&secretd_sealing::secret::Dek::generate().unwrap()));
        assert_eq!(memory.load(), v1::StoredSeen::default());
        let position = v1::ClusterPosition { epoch: 3, version: 70, store: None };
        let seen = v1::StoredSeen { position: Some(position), managers: Vec::new() };

        memory.keep(&seen);

        assert_eq!(memory.load(), seen);
        let mut bytes = fs::read(data.join(NAME)).unwrap();
        bytes[9] ^= 1;
        fs::write(data.join(NAME), bytes).unwrap();
        assert_eq!(memory.load(), v1::StoredSeen::default());
        Memory::remove(data).unwrap();
        Memory::remove(data).unwrap();
        assert!(!data.join(NAME).exists());
    }
}
