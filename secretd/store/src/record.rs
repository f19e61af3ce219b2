//! How records are written: messages of `store.proto`, to which fields can be added.
//!
//! Reading order: this file (records of the state), [`raft`] (log entries and raft's own records), [`op`] (operations).

mod cluster;
mod op;
pub(crate) mod raft;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prost::Message;
use secretd_core::secret::{SealedPayload, SecretVersion};
use secretd_core::wire::WireError;
use secretd_proto::v1;
use zeroize::Zeroizing;

pub(crate) use self::raft::{
    Applied, decode_applied, decode_entry, decode_log_id, decode_vote, encode_applied, encode_entry, encode_log_id,
    encode_vote,
};
use crate::failure::StorageFailure;
use crate::kept::KeptPayload;
use crate::op::PayloadRef;
use crate::state::{Record, SecretRecord};

/// A record of the state.
pub(crate) fn encode_record(record: &Record) -> Vec<u8> {
    record_message(record).encode_to_vec()
}

/// As [`encode_record`], before it becomes bytes.
pub(crate) fn record_message(record: &Record) -> v1::StoredRecord {
    use v1::stored_record::Record as Stored;
    let stored = match record {
        Record::Cluster(record) => Stored::Cluster(cluster::to_stored(record)),
        Record::Secret(record) => Stored::Secret(v1::StoredSecret {
            secret: Some((*record.secret).clone().into()),
            payloads: record.payloads.iter().map(|(version, kept)| stored_ref(version, kept)).collect(),
        }),
        Record::Service(service) => Stored::Service((**service).clone().into()),
        Record::Task(task) => Stored::Task((**task).clone().into()),
        Record::Node(node) => Stored::Node((**node).clone().into()),
    };
    v1::StoredRecord { record: Some(stored) }
}

/// As [`encode_record`], backwards.
pub(crate) fn decode_record(bytes: &[u8]) -> Result<Record, StorageFailure> {
    record_of(message(bytes)?)
}

/// As [`record_message`], backwards.
pub(crate) fn record_of(stored: v1::StoredRecord) -> Result<Record, StorageFailure> {
    use v1::stored_record::Record as Stored;
    Ok(match required("record", stored.record)? {
        Stored::Cluster(stored) => Record::Cluster(cluster::from_stored(stored)?),
        Stored::Secret(stored) => Record::Secret(Arc::new(SecretRecord {
            secret: Arc::new(required("secret", stored.secret)?.try_into().map_err(unknown)?),
            payloads: stored.payloads.into_iter().map(kept_payload).collect(),
        })),
        Stored::Service(service) => Record::Service(Arc::new(service.try_into().map_err(unknown)?)),
        Stored::Task(task) => Record::Task(Arc::new(task.try_into().map_err(unknown)?)),
        Stored::Node(node) => Record::Node(Arc::new(node.try_into().map_err(unknown)?)),
    })
}

/// A payload's record. It is ciphertext: nothing here is wiped.
pub(crate) fn encode_payload(payload: &SealedPayload) -> Vec<u8> {
    v1::SealedPayload::from(payload.clone()).encode_to_vec()
}

/// As [`encode_payload`], backwards.
pub(crate) fn decode_payload(mut bytes: Zeroizing<Vec<u8>>) -> Result<SealedPayload, StorageFailure> {
    let bytes = std::mem::take(&mut *bytes);
    message::<v1::SealedPayload>(&bytes).map(Into::into)
}

fn stored_ref(version: SecretVersion, kept: KeptPayload) -> v1::StoredPayloadRef {
    v1::StoredPayloadRef { secret_version: version.0, length: kept.length, index: kept.at.index, slot: kept.at.slot }
}

fn kept_payload(stored: v1::StoredPayloadRef) -> (SecretVersion, KeptPayload) {
    let at = PayloadRef { index: stored.index, slot: stored.slot };
    (SecretVersion(stored.secret_version), KeptPayload { at, length: stored.length })
}

fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, StorageFailure> {
    M::decode(bytes)
        .map_err(|error| StorageFailure::Inconsistent { what: format!("a record does not decode: {error}") })
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, StorageFailure> {
    value.ok_or_else(|| unknown(WireError::new(field, "is missing, or written by a newer secretd")))
}

/// The seal was right, so this program wrote it, or a newer one.
#[allow(clippy::needless_pass_by_value)] // for map_err
fn unknown(error: WireError) -> StorageFailure {
    StorageFailure::Inconsistent { what: error.to_string() }
}
