//! The last way out of a lost majority: this manager goes on by itself, with all that its log has.
//!
//! A membership entry of this manager alone is put at the end of the log, under a new term. When the store is opened the
//! next time it is the only voter, leads at once, and with its first entry commits everything before. So nothing is lost
//! that this manager has heard of; what only the others had is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::Utf8Path;
use openraft::{CommittedLeaderId, EntryPayload};
use secretd_sealing::at_rest::Sealer;

use super::actor::draw;
use super::config::{Entry, LogId, Membership, Vote};
use crate::engine::{Engine, Key, OpenError, Writes};
use crate::failure::StorageFailure;
use crate::peers::Member;
use crate::record;

/// Why a manager cannot go on by itself.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was never part of a cluster.
    #[error("the store is part of no cluster")]
    Empty,
    /// The disk fails.
    #[error("the store cannot be changed")]
    Storage(#[from] Arc<StorageFailure>),
}

impl From<StorageFailure> for AloneError {
    fn from(failure: StorageFailure) -> Self {
        Self::Storage(Arc::new(failure))
    }
}

/// Makes the store in `dir`, which must be closed, that of the only member `own`. Waits for the disk.
///
/// # Errors
/// See [`AloneError`]; nothing is changed then.
pub(crate) fn make_alone(dir: &Utf8Path, sealer: Sealer, own: Member) -> Result<(), AloneError> {
    let engine = Engine::open(dir, sealer)?;
    let made = append(&engine, own);
    engine.close()?;
    made
}

/// Puts the entry that makes `own` the only member at the end of the log.
pub(crate) fn append(engine: &Engine, own: Member) -> Result<(), AloneError> {
    engine.number(&Key::MEMBER)?.ok_or(AloneError::Empty)?;
    let member = draw(); // what others know of the member that it was counts no more
    let vote = engine.get(&Key::VOTE)?.map(|bytes| record::decode_vote(&bytes)).transpose()?;
    let term = vote.ok_or(AloneError::Empty)?.leader_id.term + 1;
    let last = last_index(engine)?.ok_or(AloneError::Empty)?;
    let membership = Membership::new(vec![BTreeSet::from([member])], BTreeMap::from([(member, own)]));
    let log_id = LogId::new(CommittedLeaderId::new(term, member), last + 1);
    let entry = Entry { log_id, payload: EntryPayload::Membership(membership) };
    let mut writes = Writes::default();
    writes.put(Key::log(log_id.index), record::encode_entry(&entry));
    writes.put(Key::VOTE, record::encode_vote(&Vote::new(term, member)));
    writes.put(Key::MEMBER, member.to_be_bytes().to_vec());
    writes.delete(Key::ROLLED_BACK);
    Ok(engine.commit(writes)?)
}

/// The last entry that there is, or was before the log was shortened.
fn last_index(engine: &Engine) -> Result<Option<u64>, StorageFailure> {
    if let Some(key) = engine.last_key(&Key::log(0), &Key::log(u64::MAX))? {
        let entry = engine.get(&key)?.map(|bytes| record::decode_entry(&bytes)).transpose()?;
        return Ok(entry.map(|entry| entry.log_id.index));
    }
    let purged = engine.get(&Key::PURGED)?.map(|bytes| record::decode_log_id(&bytes)).transpose()?;
    Ok(purged.map(|log_id| log_id.index))
}
