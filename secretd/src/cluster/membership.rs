//! What a node has to remember of the cluster that it is part of: who it is, its certificate and key, and where managers
//! are. One file, sealed under the node's data key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::id::{ClusterId, NodeId};
use secretd_sealing::at_rest::Sealer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The file's name in the data directory.
const NAME: &str = "membership";
/// What it is, for the seal.
const KIND: &[u8] = b"secretd membership 1";

/// How far it is with being a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The cluster is being founded, and nobody has been told that it is there.
    Founding,
    /// It is a member.
    Member,
    /// It leaves: what is left of its state is to be removed.
    Leaving,
}

/// This node's part in a cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) stage: Stage,
    /// Whether it is a manager.
    pub(crate) manager: bool,
    /// Where others reach it.
    pub(crate) address: SocketAddr,
    /// Where it listens when it is a manager.
    pub(crate) listen: SocketAddr,
    /// Addresses of managers, as it was told last.
    pub(crate) managers: Vec<String>,
    /// Root certificates that count (X.509, DER).
    pub(crate) roots: Vec<Vec<u8>>,
    /// Its own certificate (X.509, DER).
    pub(crate) certificate: Vec<u8>,
    /// The certificate's key (PKCS #8).
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("cluster", &self.cluster).field("node", &self.node).finish_non_exhaustive()
    }
}

/// More than any membership takes, in bytes.
const ROOM: usize = 64 * 1024;

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct MembershipFile {
    path: Utf8PathBuf,
    sealer: Sealer,
}

impl MembershipFile {
    pub(crate) fn new(data: &Utf8Path, sealer: Sealer) -> Self {
        Self { path: data.join(NAME), sealer }
    }

    /// What was saved; `None` for a node that is part of no cluster.
    ///
    /// # Errors
    /// When the file cannot be read, or has not the bytes that were written.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Membership>> {
        let damaged = || format!("{} is damaged: restore it from a backup, or have the node join again", self.path);
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.path.to_string()),
        };
        let plain = self.sealer.open(KIND, &bytes).ok().with_context(damaged)?;
        postcard::from_bytes(&plain).map(Some).with_context(damaged)
    }

    /// Saves the membership: all of it or nothing, and durably.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn save(&self, membership: &Membership) -> anyhow::Result<()> {
        let plain = Zeroizing::new(postcard::to_stdvec(membership).context("the membership cannot be written")?);
        let sealed = self.sealer.seal(KIND, &plain)?;
        self.write(&sealed).with_context(|| self.path.to_string())
    }

    /// Seals what was saved under the newest data key, if anything was.
    ///
    /// # Errors
    /// When it cannot be read, or the disk does not take it.
    pub(crate) fn reseal(&self) -> anyhow::Result<()> {
        self.load()?.map_or(Ok(()), |membership| self.save(&membership))
    }

    /// The node is part of no cluster any more.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn remove(data: &Utf8Path) -> anyhow::Result<()> {
        let path = data.join(NAME);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => sync(data),
        };
        removed.with_context(|| path.to_string())
    }

    /// That the disk has room for a membership: before anybody else is told of it.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn check_room(&self) -> anyhow::Result<()> {
        let path = self.path.with_extension("room");
        let written = fs::write(&path, [1; ROOM]).and_then(|()| File::open(&path)?.sync_all());
        let _ = fs::remove_file(&path); // it may not have come to be
        written.with_context(|| self.path.to_string())
    }

    fn write(&self, sealed: &[u8]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(sealed)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.path.parent().map_or(Ok(()), sync)
    }
}

pub(super) fn sync(directory: &Utf8Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(directory.path()).unwrap();
        let sealer = Sealer::new(&secretd_sealing::secret::Dek::generate().unwrap());
        let file = MembershipFile::new(data, sealer);
        assert_eq!(file.load().unwrap(), None);
        let membership = Membership {
            cluster: ClusterId::from_random([1; 16]),
            node: NodeId::from_random([2; 16]),
            stage: Stage::Member,
            manager: true,
            address: "10.0.0.1:7377".parse().unwrap(),
            listen: "0.0.0.0:7377".parse().unwrap(),
            managers: vec!["10.0.0.2:7377".to_owned()],
            roots: vec![vec![1, 2, 3]],
            certificate: vec![4],
            key: Zeroizing::new(b"a private key".to_vec()),
        };
        file.save(&membership).unwrap();
        assert_eq!(file.load().unwrap(), Some(membership));

        let bytes = fs::read(data.join("membership")).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"private"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(data.join("membership"), &damaged).unwrap();
            assert!(file.load().unwrap_err().to_string().contains("is damaged"), "byte {at}");
            fs::write(data.join("membership"), &bytes[..at]).unwrap();
            assert!(file.load().is_err(), "cut at {at}");
        }
        MembershipFile::remove(data).unwrap();
        assert_eq!(file.load().unwrap(), None);
        MembershipFile::remove(data).unwrap();
    }
}
