//! The seam under the store: how proposals become changes.
//!
//! `RaftProposer` replicates and keeps them on disk, `LocalProposer` applies them in memory at once; both
//! use the same [`apply`](crate::apply::apply). Proposals are atomic, ordered, and visible in the view when `propose`
//! returns. A call that is dropped before it returns may still take effect.

use std::sync::Arc;

use async_trait::async_trait;
use secretd_core::secret::SealedPayload;
use secretd_core::time::Version;
use secretd_proto::limit::{AEAD_TAG_LENGTH, MAX_SECRET_LENGTH, WRAPPED_DEK_LENGTH};

use crate::conflict::Conflict;
use crate::failure::StorageFailure;
use crate::op::{Op, PayloadRef};
use crate::peers::Member;

/// Why a proposal did not take effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// A precondition does not hold; nothing was applied.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A payload is not as long as its operation says; nothing was proposed.
    #[error(
        "the sealed payload has {ciphertext} bytes and its wrapped key {wrapped_dek}: that is no secret of {length} bytes"
    )]
    PayloadLength {
        /// What the operation says, in bytes of plaintext.
        length: u32,
        /// Bytes of ciphertext.
        ciphertext: usize,
        /// Bytes of wrapped key.
        wrapped_dek: usize,
    },
    /// The disk is full; nothing was applied. Removing is possible until the reserve is used up too.
    #[error("the disk that holds the data directory is full (8 MiB are kept free on it): free some space and repeat")]
    Full,
    /// The store failed. Whether the proposal took effect shows after the restart that is now necessary.
    #[error("the store failed and takes no more writes: repair the cause and start secretd again")]
    Storage(#[source] Arc<StorageFailure>),
    /// Too few managers answer for a majority; nothing was proposed.
    #[error("{}", no_quorum(*reachable, *voters, missing))]
    NoQuorum {
        /// Managers that answer, this one among them.
        reachable: usize,
        /// Managers that vote.
        voters: usize,
        /// Those that do not answer.
        missing: Vec<Member>,
    },
    /// A majority has not agreed in time, for the reason within. Whether the proposal takes effect later is not known: it is in
    /// the log of one manager at least.
    #[error("{0}; whether the change was made is not known: look, and repeat it")]
    Undecided(Box<ProposeError>),
    /// Another manager leads, or none; nothing was proposed.
    #[error("{}", not_leader(.0.as_ref()))]
    NotLeader(Option<Member>),
    /// Another manager took over before a majority had the proposal. Whether it takes effect later is not known: a manager
    /// that has it may lead one day.
    #[error("another manager took over meanwhile: whether the change was made is not known: look, and repeat it")]
    Superseded,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

fn no_quorum(reachable: usize, voters: usize, missing: &[Member]) -> String {
    if missing.is_empty() {
        return "the managers answer each other, and a majority of them has not agreed in time: are their disks busy?"
            .to_owned();
    }
    let missing = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let majority = voters / 2 + 1;
    format!("{reachable} of {voters} managers answer, {majority} are needed: start {missing}")
}

fn not_leader(leader: Option<&Member>) -> String {
    match leader {
        Some(leader) => format!("manager {leader} leads"),
        None => "no manager leads: fewer than a majority of the managers answer each other".to_owned(),
    }
}

/// Why a payload could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The disk does not have the bytes that were written.
    #[error("the store's record of this payload is damaged: restore the data directory from a copy")]
    Corrupt(#[source] Arc<StorageFailure>),
    /// The disk does not answer.
    #[error("the store's record of this payload cannot be read")]
    Storage(#[source] Arc<StorageFailure>),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

#[async_trait]
pub(crate) trait Proposer: Send + Sync + std::fmt::Debug {
    /// Applies all of `ops` or none, and returns the version at which they are visible.
    async fn propose(&self, ops: Vec<Op>) -> Result<Version, ProposeError>;

    /// The payload at `at`, if it is still kept.
    async fn payload(&self, at: PayloadRef) -> Result<Option<Arc<SealedPayload>>, ReadError>;

    /// Waits until the store has failed for good.
    async fn failed(&self) -> Arc<StorageFailure>;

    /// Waits for what is under way and closes.
    async fn shutdown(&self);
}

/// Refuses payloads that cannot be what their operation says.
pub(crate) fn check_payloads(ops: &[Op]) -> Result<(), ProposeError> {
    for (length, payload) in ops.iter().filter_map(Op::payload) {
        let (ciphertext, wrapped_dek) =
            payload.sealed().map_or((0, 0), |sealed| (sealed.ciphertext.len(), sealed.wrapped_dek.len()));
        let plaintext = length as usize;
        let fits = (1..=MAX_SECRET_LENGTH).contains(&plaintext)
            && ciphertext == plaintext + AEAD_TAG_LENGTH
            && wrapped_dek == WRAPPED_DEK_LENGTH;
        if !fits {
            return Err(ProposeError::PayloadLength { length, ciphertext, wrapped_dek });
        }
    }
    Ok(())
}
