//! A snapshot on its way to another manager: header, records, payloads, end.
//!
//! The sender reads one payload after the other from its disk; the receiver keeps them in an engine of their own until
//! the end has come, and the state machine then takes them over. What breaks off before the end leaves nothing.

use std::sync::Arc;

use camino::Utf8PathBuf;
use openraft::Snapshot;
use secretd_proto::v1;
use secretd_proto::v1::snapshot_chunk::Chunk;
use secretd_sealing::at_rest::Sealer;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::config::{SnapshotMeta, TypeConfig, Vote};
use super::message::missing;
use super::snapshot::StateSnapshot;
use crate::engine::{Engine, Key, OpenError, Writes};
use crate::failure::StorageFailure;
use crate::op::PayloadRef;
use crate::record::raft::{applied_message, applied_of, vote_message, vote_of};
use crate::record::{Applied, decode_payload, record_message, record_of};
use crate::state::State;
use crate::view::View;

/// Chunks that wait for the network: as many payloads are in memory.
const CHUNKS: usize = 4;
/// Bytes of payloads that are written in one commit.
const WRITTEN_AT_ONCE: usize = 4 * 1024 * 1024;

/// Reads a snapshot into chunks, on a thread that may wait for the disk.
pub(super) fn send(
    runtime: &Handle,
    to: u64,
    vote: &Vote,
    snapshot: Snapshot<TypeConfig>,
) -> mpsc::Receiver<v1::SnapshotChunk> {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let header = v1::SnapshotHeader {
        to,
        vote: Some(vote_message(vote)),
        applied: Some(applied_message(&Applied {
            log_id: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership.clone(),
            version: snapshot.snapshot.view.version(),
        })),
        snapshot_id: snapshot.meta.snapshot_id.clone(),
    };
    runtime.spawn_blocking(move || {
        if let Err(failure) = read(header, &snapshot.snapshot, &sender) {
            // Without its end the snapshot is not installed.
            tracing::error!(
                error = &failure as &dyn std::error::Error,
                "a snapshot for another manager cannot be read"
            );
        }
    });
    chunks
}

fn read(
    header: v1::SnapshotHeader,
    snapshot: &StateSnapshot,
    sender: &mpsc::Sender<v1::SnapshotChunk>,
) -> Result<(), StorageFailure> {
    let state = snapshot.view.state();
    let send = |chunk| sender.blocking_send(v1::SnapshotChunk { chunk: Some(chunk) }).is_ok();
    if !send(Chunk::Header(header)) {
        return Ok(()); // the receiver has gone away
    }
    for record in state.keys().filter_map(|key| state.get(key)) {
        if !send(Chunk::Record(record_message(&record))) {
            return Ok(());
        }
    }
    for at in state.payloads() {
        let key = Key::payload(at);
        let missing = || StorageFailure::Inconsistent { what: format!("{key} of the snapshot is missing") };
        let payload = decode_payload(snapshot.source.get(&key)?.ok_or_else(missing)?)?;
        let chunk = v1::SnapshotPayload { index: at.index, slot: at.slot, payload: Some(payload.into()) };
        if !send(Chunk::Payload(chunk)) {
            return Ok(());
        }
    }
    send(Chunk::End(v1::StoredBlank {}));
    Ok(())
}

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Its parts do not make a snapshot.
    #[error("the snapshot is not understood")]
    Message(#[from] StorageFailure),
    /// It cannot be kept.
    #[error("the snapshot cannot be kept until it is whole")]
    Open(#[from] OpenError),
    /// The disk fails.
    #[error("the snapshot cannot be written")]
    Write(#[from] Arc<StorageFailure>),
    /// It broke off.
    #[error("the snapshot has ended before its end")]
    BrokenOff,
    /// It is meant for another.
    #[error("the snapshot is meant for another member")]
    OtherMember,
}

/// A snapshot that is coming in.
#[derive(Debug)]
pub(crate) struct Incoming {
    directory: Utf8PathBuf,
    source: Arc<Engine>,
    vote: Vote,
    applied: Applied,
    snapshot_id: String,
    state: State,
    writes: Writes,
    size: usize,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// What is not needed any more is removed; the next start tries again.
pub(crate) fn remove(directory: &camino::Utf8Path) {
    match std::fs::remove_dir_all(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, %directory, "what is left of a snapshot cannot be removed"),
    }
}

impl Incoming {
    /// Begins with the first chunk.
    pub(crate) fn begin(
        directory: Utf8PathBuf,
        sealer: Sealer,
        member: u64,
        first: v1::SnapshotChunk,
    ) -> Result<Self, ReceiveError> {
        let Some(Chunk::Header(header)) = first.chunk else { return Err(missing("header").into()) };
        if header.to != member {
            return Err(ReceiveError::OtherMember);
        }
        let applied = applied_of(header.applied.ok_or_else(|| missing("applied"))?)?;
        remove(&directory);
        let source = Arc::new(Engine::open(&directory, sealer)?);
        Ok(Self {
            directory,
            source,
            vote: vote_of(header.vote.ok_or_else(|| missing("vote"))?),
            state: State { version: applied.version, ..State::default() },
            applied,
            snapshot_id: header.snapshot_id,
            writes: Writes::default(),
            size: 0,
        })
    }

    /// Takes a chunk; `true` after the last.
    pub(crate) fn take(&mut self, chunk: v1::SnapshotChunk) -> Result<bool, ReceiveError> {
        match chunk.chunk.ok_or_else(|| missing("chunk"))? {
            Chunk::Header(_) => return Err(missing("record").into()),
            Chunk::Record(record) => self.state.put(record_of(record)?),
            Chunk::Payload(chunk) => {
                let payload = chunk.payload.ok_or_else(|| missing("payload"))?;
                self.size += payload.ciphertext.len();
                let key = Key::payload(PayloadRef { index: chunk.index, slot: chunk.slot });
                self.writes.put_payload(key, Arc::new(payload.into()));
                if self.size >= WRITTEN_AT_ONCE {
                    self.write()?;
                }
            }
            Chunk::End(_) => {
                self.write()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write(&mut self) -> Result<(), ReceiveError> {
        self.size = 0;
        let writes = std::mem::take(&mut self.writes);
        if !writes.is_empty() {
            self.source.commit(writes)?;
        }
        Ok(())
    }

    /// The snapshot, to be installed while this lives.
    pub(crate) fn snapshot(&mut self) -> (Vote, Snapshot<TypeConfig>) {
        let state = std::mem::take(&mut self.state);
        let data = StateSnapshot { view: Arc::new(View::new(state)), source: Arc::clone(&self.source) };
        let meta = SnapshotMeta {
            last_log_id: self.applied.log_id,
            last_membership: self.applied.membership.clone(),
            snapshot_id: self.snapshot_id.clone(),
        };
        (self.vote, Snapshot { meta, snapshot: Box::new(data) })
    }
}
