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
use tokio::sync::mpsc;

use super::config::{SnapshotMeta, TypeConfig, Vote};
use super::contents::{self, Contents};
use super::message::missing;
use super::network::Network;
use super::snapshot::StateSnapshot;
use crate::engine::OpenError;
use crate::engine::disk::Disk;
use crate::failure::StorageFailure;
use crate::record::Applied;
use crate::record::raft::{applied_message, applied_of, vote_message, vote_of};

/// Chunks that wait for the network: as many payloads are in memory.
const CHUNKS: usize = 4;
/// Reads a snapshot into chunks, on a thread that may wait for the disk.
pub(super) fn send(
    network: &Network,
    vote: &Vote,
    to: u64,
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
        standing: Some(network.witness.standing(to)),
    };
    let work = async move {
        if let Err(failure) = read(header, &snapshot.snapshot, &sender).await {
            // Without its end the snapshot is not installed.
            tracing::error!(
                error = &failure as &dyn std::error::Error,
                "a snapshot for another manager cannot be read"
            );
        }
    };
    network.threads.run_aside(&network.runtime, Box::pin(work));
    chunks
}

async fn read(
    header: v1::SnapshotHeader,
    snapshot: &StateSnapshot,
    sender: &mpsc::Sender<v1::SnapshotChunk>,
) -> Result<(), StorageFailure> {
    let header = v1::SnapshotChunk { chunk: Some(Chunk::Header(header)) };
    for chunk in std::iter::once(Ok(header)).chain(contents::chunks(snapshot)) {
        if sender.send(chunk?).await.is_err() {
            break; // a receiver that has gone away wants no more
        }
    }
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
    /// Its sender, or this member, has to look at what is known of it first.
    #[error("the snapshot is not taken: {0}")]
    Standing(&'static str),
    /// It is meant for another.
    #[error("the snapshot is meant for another member")]
    OtherMember,
}

/// A snapshot that is coming in.
#[derive(Debug)]
pub(crate) struct Incoming {
    directory: Utf8PathBuf,
    contents: Contents,
    vote: Vote,
    applied: Applied,
    snapshot_id: String,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        contents::remove(&*self.contents.engine.disk(), &self.directory);
    }
}

impl Incoming {
    /// Begins with the first chunk.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
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
        let mut contents = Contents::begin(disk, &directory, sealer)?;
        contents.state.version = applied.version;
        let vote = vote_of(header.vote.ok_or_else(|| missing("vote"))?);
        Ok(Self { directory, contents, vote, applied, snapshot_id: header.snapshot_id })
    }

    /// Takes a chunk; `true` after the last.
    pub(crate) fn take(&mut self, chunk: v1::SnapshotChunk) -> Result<bool, ReceiveError> {
        self.contents.take(chunk)
    }

    /// What its payloads take on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.contents.bytes
    }

    /// The snapshot, to be installed while this lives.
    pub(crate) fn snapshot(&mut self) -> (Vote, Snapshot<TypeConfig>) {
        let data = self.contents.snapshot();
        let meta = SnapshotMeta {
            last_log_id: self.applied.log_id,
            last_membership: self.applied.membership.clone(),
            snapshot_id: self.snapshot_id.clone(),
        };
        (self.vote, Snapshot { meta, snapshot: Box::new(data) })
    }
}
