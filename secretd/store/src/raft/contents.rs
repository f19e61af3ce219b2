//! What a snapshot or a backup consists of: records, payloads, and an end without which nothing before it counts.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::v1;
use secretd_proto::v1::snapshot_chunk::Chunk;
use secretd_sealing::at_rest::Sealer;

use super::message::missing;
use super::snapshot::StateSnapshot;
use super::stream::ReceiveError;
use crate::engine::disk::Disk;
use crate::engine::{Engine, Key, Writes};
use crate::failure::StorageFailure;
use crate::op::PayloadRef;
use crate::record::{decode_payload, record_message, record_of};
use crate::state::State;
use crate::view::View;

/// Bytes of payloads that are written in one commit.
const WRITTEN_AT_ONCE: usize = 4 * 1024 * 1024;

/// Reads a snapshot, one payload after the other, as they are asked for.
pub(crate) fn chunks(
    snapshot: &StateSnapshot,
) -> impl Iterator<Item = Result<v1::SnapshotChunk, StorageFailure>> + Send {
    let state = snapshot.view.state();
    let records = state.keys().filter_map(|key| state.get(key));
    let records = records.map(|record| Ok(Chunk::Record(record_message(&record))));
    let payloads = state.payloads().map(|at| {
        let key = Key::payload(at);
        let missing = || StorageFailure::Inconsistent { what: format!("{key} of the snapshot is missing") };
        let payload = decode_payload(snapshot.source.get(&key)?.ok_or_else(missing)?)?;
        let chunk = v1::SnapshotPayload { index: at.index, slot: at.slot, payload: Some(payload.into()) };
        Ok(Chunk::Payload(chunk))
    });
    let end = std::iter::once(Ok(Chunk::End(v1::StoredBlank {})));
    let chunks = records.chain(payloads).chain(end);
    chunks.map(|chunk| chunk.map(|chunk| v1::SnapshotChunk { chunk: Some(chunk) }))
}

/// What is not needed any more is removed; the next start tries again.
pub(crate) fn remove(disk: &dyn Disk, directory: &Utf8Path) {
    match disk.remove_directory(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, %directory, "what is left of a snapshot cannot be removed"),
    }
}

/// Contents that are coming in: payloads go to the disk at once, to an engine of their own. A data key of the
/// node that is replaced meanwhile is kept until they are dropped: nobody seals them anew.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: State,
    /// What its payloads take on the disk: the engine allocates in powers of two.
    pub(crate) bytes: u64,
    writes: Writes,
    /// Bytes of payloads that wait to be written.
    size: usize,
}

impl Contents {
    /// Begins anew in `directory`.
    pub(crate) fn begin(disk: &Arc<dyn Disk>, directory: &Utf8PathBuf, sealer: Sealer) -> Result<Self, ReceiveError> {
        remove(&**disk, directory);
        let opened = Engine::open_apart(Arc::clone(disk), directory, sealer);
        let engine = Arc::new(opened.inspect_err(|_| remove(&**disk, directory))?);
        Ok(Self { engine, state: State::default(), bytes: 0, writes: Writes::default(), size: 0 })
    }

    /// Takes a part; `true` after the last.
    pub(crate) fn take(&mut self, chunk: v1::SnapshotChunk) -> Result<bool, ReceiveError> {
        match chunk.chunk.ok_or_else(|| missing("chunk"))? {
            Chunk::Header(_) => return Err(missing("record").into()),
            Chunk::Record(record) => self.state.put(record_of(record)?),
            Chunk::Payload(chunk) => {
                let payload = chunk.payload.ok_or_else(|| missing("payload"))?;
                self.size += payload.ciphertext.len();
                self.bytes += 2 * payload.ciphertext.len() as u64;
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
            self.engine.commit(writes)?;
        }
        Ok(())
    }

    /// All of it, as a snapshot.
    pub(crate) fn snapshot(&mut self) -> StateSnapshot {
        let state = std::mem::take(&mut self.state);
        StateSnapshot { view: Arc::new(View::new(state)), source: Arc::clone(&self.engine) }
    }
}
