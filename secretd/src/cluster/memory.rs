//! What this node has seen of its cluster: a small file, sealed under the node's data key.
//!
//! It is written without waiting for the disk, several times a second while the cluster changes: it survives a killed
//! process, and after a lost power supply it may be behind, which refuses nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use prost::Message;
use secretd_proto::v1;
use secretd_sealing::at_rest::Sealer;

use super::membership::sync;

/// The file's name in the data directory.
const NAME: &str = "seen";
/// What it is, for the seal.
const KIND: &[u8] = b"secretd seen 1";

/// The file. Clones take turns: there is one of it for one run of the node as a member.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    path: Utf8PathBuf,
    sealer: Sealer,
    turn: Arc<Mutex<()>>,
}

impl Memory {
    pub(crate) fn new(data: &Utf8Path, sealer: Sealer) -> Self {
        Self { path: data.join(NAME), sealer, turn: Arc::default() }
    }

    /// What was kept; nothing where that cannot be read, which is told.
    pub(crate) fn load(&self) -> v1::StoredSeen {
        let _turn = self.turn.lock();
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
    ///
    /// # Errors
    /// When the disk does not take it: what was kept is there still.
    pub(crate) fn keep(&self, seen: &v1::StoredSeen) -> anyhow::Result<()> {
        let _turn = self.turn.lock();
        self.write(&seen.encode_to_vec(), |_| Ok(()))
    }

    /// Seals what is kept under the newest data key, and waits for the disk: a lost power supply must not bring back what
    /// no key opens.
    ///
    /// # Errors
    /// When it cannot be read, or the disk does not take it.
    pub(crate) fn reseal(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock();
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| self.path.to_string()),
        };
        let Ok(plain) = self.sealer.open(KIND, &bytes) else { return Ok(()) }; // damaged: no key opens it
        self.write(&plain, File::sync_all)?;
        self.path.parent().map_or(Ok(()), sync).with_context(|| self.path.to_string())
    }

    fn write(&self, plain: &[u8], sync: impl FnOnce(&File) -> io::Result<()>) -> anyhow::Result<()> {
        let sealed = self.sealer.seal(KIND, plain)?;
        let new = self.path.with_extension("new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&sealed)?;
            sync(&file)?;
            fs::rename(&new, &self.path)
        });
        written.with_context(|| self.path.to_string())
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
    use secretd_sealing::secret::Dek;

    use super::*;

    fn memory() -> (tempfile::TempDir, Utf8PathBuf, Memory) {
        let directory = tempfile::tempdir().unwrap();
        let data = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let memory = Memory::new(&data, Sealer::new(&Dek::from_bytes(&[7; 32])));
        (directory, data, memory)
    }

    fn seen(version: u64) -> v1::StoredSeen {
        let position = v1::ClusterPosition { epoch: 3, version, store: None };
        v1::StoredSeen { position: Some(position), managers: Vec::new() }
    }

    #[test]
    fn what_was_seen_is_kept_sealed_and_damage_is_as_if_nothing_was() {
        let (_guard, data, memory) = memory();
        assert_eq!(memory.load(), v1::StoredSeen::default());
        memory.reseal().unwrap();

        memory.keep(&seen(70)).unwrap();

        assert_eq!(memory.load(), seen(70));
        let bytes = fs::read(data.join(NAME)).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(data.join(NAME), damaged).unwrap();
            assert_eq!(memory.load(), v1::StoredSeen::default(), "byte {at}");
            fs::write(data.join(NAME), &bytes[..at]).unwrap();
            assert_eq!(memory.load(), v1::StoredSeen::default(), "cut to {at}");
        }
        memory.reseal().unwrap();
        Memory::remove(&data).unwrap();
        Memory::remove(&data).unwrap();
        assert!(!data.join(NAME).exists());
    }

    #[test]
    fn it_says_when_the_disk_does_not_take_it_and_what_was_kept_is_there() {
        let (_guard, data, memory) = memory();
        memory.keep(&seen(70)).unwrap();
        memory.sealer.begin(1, &Dek::from_bytes(&[8; 32]));
        fs::create_dir(data.join("seen.new")).unwrap();

        assert!(memory.keep(&seen(71)).is_err() && memory.reseal().is_err());
        assert_eq!(memory.load(), seen(70));

        fs::remove_dir(data.join("seen.new")).unwrap();
        memory.reseal().unwrap();
        memory.sealer.forget_older();
        assert_eq!(memory.load(), seen(70));
    }

    #[test]
    fn writers_take_turns_and_nothing_newer_is_lost() {
        let (_guard, _, memory) = memory();
        memory.keep(&seen(0)).unwrap();
        let other = memory.clone();
        std::thread::scope(|scope| {
            let resealing = scope.spawn(move || (0..200).try_for_each(|_| other.reseal()));
            for version in 1..2000 {
                memory.keep(&seen(version)).unwrap();
                assert_eq!(memory.load(), seen(version));
            }
            resealing.join().unwrap().unwrap();
        });
    }
}
