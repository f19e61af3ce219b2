//! A backup of the whole state: taken while everything goes on, opened by a new cluster's first manager.
//!
//! In it are what a snapshot has, and what a restored manager begins its log with. [`secretd_sealing::backup`] seals it.

use std::sync::Arc;

use camino::Utf8PathBuf;
use openraft::CommittedLeaderId;
use prost::Message;
use secretd_core::time::{Timestamp, Version};
use secretd_core::wire::{time_from_wire, time_to_wire};
use secretd_proto::v1;
use secretd_sealing::at_rest::Sealer;
use secretd_sealing::backup::{BackupError as SealError, BackupOpen, BackupSeal, BackupSecret};
use zeroize::Zeroizing;

use super::actor::member_id;
use super::alone::{self, AloneError};
use super::config::{LogId, StoredMembership, Vote};
use super::contents::{self, Contents};
use super::snapshot::StateSnapshot;
use super::stream::ReceiveError;
use crate::cluster::ClusterRecord;
use crate::engine::disk::{Disk, Files};
use crate::engine::{Key, OpenError, Writes};
use crate::failure::StorageFailure;
use crate::peers::Member;
use crate::record::{self, Applied};
use crate::view::View;

/// What this version writes, and reads.
const FORMAT: u32 = 1;
/// The longest prefix that tells a message's length.
const LONGEST_DELIMITER: usize = 10;

/// Why a backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not open, is not whole, or could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Another version of secretd has made it.
    #[error(
        "the backup has format {0}, and this secretd reads format {FORMAT}: use the secretd that made it, or a newer one"
    )]
    Format(u32),
    /// Its parts do not make a cluster's state.
    #[error("the backup is damaged: {0}")]
    Content(&'static str),
    /// A part is not understood, or cannot be kept.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The disk fails.
    #[error("the store cannot be read or written")]
    Storage(#[from] Arc<StorageFailure>),
}

impl From<StorageFailure> for BackupError {
    fn from(failure: StorageFailure) -> Self {
        Self::Storage(Arc::new(failure))
    }
}

impl From<AloneError> for BackupError {
    fn from(error: AloneError) -> Self {
        match error {
            AloneError::Open(error) => error.into(),
            AloneError::Storage(failure) => Self::Storage(failure),
            AloneError::Empty => Self::Content("its end"),
        }
    }
}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> Self {
        Self::Receive(error.into())
    }
}

/// The state at one moment, kept for a backup: its payloads stay on the disk while this lives.
#[derive(Debug)]
pub struct Backup(pub(crate) StateSnapshot);

impl Backup {
    /// The state that it has.
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// Writes the backup under a seal that has just begun, piece by piece, until `sink` answers that nobody wants more.
    /// Waits for the disk.
    ///
    /// # Errors
    /// When the disk fails; what was written is no backup then.
    pub fn write(
        &self,
        mut seal: BackupSeal,
        taken_at: Timestamp,
        mut sink: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), BackupError> {
        let state = self.0.view.state();
        let cluster = state.cluster.as_ref().ok_or(BackupError::Content("there is no cluster"))?;
        let header = v1::BackupHeader {
            format: FORMAT,
            cluster_id: cluster.cluster.id.to_string(),
            taken_at: Some(time_to_wire(taken_at)),
            version: state.version.0,
            index: state.payloads().map(|at| at.index).max().unwrap_or(0),
        };
        if !sink(seal.write(&header.encode_length_delimited_to_vec())?) {
            return Ok(());
        }
        for chunk in contents::chunks(&self.0) {
            let message = Zeroizing::new(chunk?.encode_length_delimited_to_vec());
            let sealed = seal.write(&message)?;
            if !sealed.is_empty() && !sink(sealed) {
                return Ok(());
            }
        }
        sink(seal.finish()?);
        Ok(())
    }
}

/// A backup that becomes a store. What is dropped before it is finished leaves nothing.
#[derive(Debug)]
pub struct Restore {
    directory: Utf8PathBuf,
    open: Option<BackupOpen>,
    read: Zeroizing<Vec<u8>>,
    header: Option<v1::BackupHeader>,
    contents: Option<Contents>,
    ended: bool,
}

/// What a restored store is.
#[derive(Debug)]
pub struct Restored {
    /// The cluster, with its keys.
    pub cluster: ClusterRecord,
    /// When the backup was taken.
    pub taken_at: Timestamp,
}

impl Drop for Restore {
    fn drop(&mut self) {
        if self.contents.take().is_some() {
            contents::remove(&Files, &self.directory);
        }
    }
}

impl Restore {
    /// A store in `directory`, in place of what is there, from the backup that `secret` opens.
    ///
    /// # Errors
    /// When the store cannot be made.
    pub fn begin(directory: Utf8PathBuf, sealer: Sealer, secret: BackupSecret) -> Result<Self, BackupError> {
        let contents = Contents::begin(&(Arc::new(Files) as Arc<dyn Disk>), &directory, sealer)?;
        let (open, read) = (Some(BackupOpen::new(secret)), Zeroizing::default());
        Ok(Self { directory, open, read, header: None, contents: Some(contents), ended: false })
    }

    /// Takes more of the file. Waits for the disk.
    ///
    /// # Errors
    /// When it is no backup, another's, or damaged.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let Some(open) = &mut self.open else { return Err(BackupError::Content("its end")) };
        let content = open.read(bytes)?;
        self.take_content(&content, false)
    }

    fn take_content(&mut self, content: &[u8], is_last: bool) -> Result<(), BackupError> {
        // A new buffer with room for both: growing would leave copies behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(self.read.len() + content.len()));
        whole.extend_from_slice(&self.read);
        whole.extend_from_slice(content);
        let mut rest = whole.as_slice();
        while !self.ended && (rest.len() >= LONGEST_DELIMITER || is_last) {
            let mut after = rest;
            let length = prost::decode_length_delimiter(&mut after).map_err(|_| BackupError::Content("a length"))?;
            let Some((message, next)) = after.split_at_checked(length) else { break };
            self.take_message(message)?;
            rest = next;
        }
        if is_last && !(self.ended && rest.iter().all(|byte| *byte == 0)) {
            return Err(BackupError::Content("its end"));
        }
        self.read = Zeroizing::new(rest.to_vec());
        Ok(())
    }

    fn take_message(&mut self, message: &[u8]) -> Result<(), BackupError> {
        let Some(contents) = &mut self.contents else { return Ok(()) };
        if self.header.is_some() {
            let chunk = v1::SnapshotChunk::decode(message).map_err(|_| BackupError::Content("a record"))?;
            self.ended = contents.take(chunk)?;
            return Ok(());
        }
        let header = v1::BackupHeader::decode(message).map_err(|_| BackupError::Content("its header"))?;
        if header.format != FORMAT {
            return Err(BackupError::Format(header.format));
        }
        contents.state.version = Version(header.version);
        self.header = Some(header);
        Ok(())
    }

    /// The file has come to its end: makes the store that of the only manager `own`. Waits for the disk.
    ///
    /// # Errors
    /// When the backup is not whole, or the disk fails; nothing is left then.
    pub fn finish(mut self, own: Member) -> Result<Restored, BackupError> {
        let Some(open) = self.open.take() else { return Err(BackupError::Content("its end")) };
        let last = open.finish()?;
        self.take_content(&last, true)?;
        let Some(contents) = &self.contents else { return Err(BackupError::Content("its end")) };
        let header = self.header.take().ok_or(BackupError::Content("its header"))?;
        let cluster = contents.state.cluster.clone().ok_or(BackupError::Content("the cluster"))?;
        let is_header = header.cluster_id == cluster.cluster.id.to_string();
        let taken_at = header.taken_at.filter(|_| is_header).ok_or(BackupError::Content("its header"))?;
        write_state(contents, header.index)?;
        alone::append(&contents.engine, own)?;
        contents.engine.close()?;
        self.contents = None; // it stays
        Ok(Restored { cluster, taken_at: time_from_wire(Some(taken_at)) })
    }
}

/// The state as one whose log was shortened: up to `index`, of a term that no leader ever had.
fn write_state(contents: &Contents, index: u64) -> Result<(), BackupError> {
    let (engine, state) = (&contents.engine, &contents.state);
    let member = member_id(engine)?;
    let log_id = LogId::new(CommittedLeaderId::new(0, member), index);
    let applied = Applied { log_id: Some(log_id), membership: StoredMembership::default(), version: state.version };
    let mut writes = Writes::default();
    for record in state.keys().filter_map(|key| state.get(key)) {
        writes.put(Key::state(record.key()), record::encode_record(&record));
    }
    writes.put(Key::APPLIED, record::encode_applied(&applied));
    writes.put(Key::PURGED, record::encode_log_id(log_id));
    writes.put(Key::VOTE, record::encode_vote(&Vote::new(0, member)));
    Ok(engine.commit(writes)?)
}
