//! Raft's requests and answers as the messages of `raft.proto`.

use std::sync::Arc;

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use secretd_core::wire::WireError;
use secretd_proto::v1;
use secretd_proto::v1::append_response::Outcome;

use super::config::{Batch, Entry, TypeConfig, Vote};
use crate::failure::StorageFailure;
use crate::op::{Op, Proposal};
use crate::record::raft::{entry_message, entry_of, log_id, log_id_back, vote_message, vote_of};

/// A message that is none of raft's.
pub(crate) type MessageError = StorageFailure;

pub(crate) fn missing(field: &'static str) -> MessageError {
    StorageFailure::Inconsistent { what: WireError::new(field, "is missing").to_string() }
}

pub(crate) fn append_request(to: u64, request: &AppendEntriesRequest<TypeConfig>) -> v1::AppendRequest {
    v1::AppendRequest {
        to,
        vote: Some(vote_message(&request.vote)),
        previous: request.prev_log_id.map(log_id),
        entries: request.entries.iter().map(appended).collect(),
        committed: request.leader_commit.map(log_id),
        standing: None,
        witnessed: Vec::new(),
    }
}

pub(crate) fn append_request_of(request: v1::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, MessageError> {
    Ok(AppendEntriesRequest {
        vote: vote_of(request.vote.ok_or_else(|| missing("vote"))?),
        prev_log_id: request.previous.map(log_id_back),
        entries: request.entries.into_iter().map(appended_of).collect::<Result<_, _>>()?,
        leader_commit: request.committed.map(log_id_back),
    })
}

/// An entry with its payloads beside it.
fn appended(entry: &Entry) -> v1::AppendedEntry {
    let payloads = payloads(entry).filter_map(|op| op.payload()?.1.sealed().cloned());
    let payloads = payloads.map(|sealed| v1::SealedPayload::from((*sealed).clone())).collect();
    v1::AppendedEntry { entry: Some(entry_message(entry)), payloads }
}

fn payloads(entry: &Entry) -> impl Iterator<Item = &Op> {
    let proposals = match &entry.payload {
        EntryPayload::Normal(Batch(proposals)) => proposals.as_slice(),
        EntryPayload::Blank | EntryPayload::Membership(_) => &[],
    };
    proposals.iter().flat_map(|proposal| &proposal.ops).filter(|op| op.payload().is_some())
}

fn appended_of(appended: v1::AppendedEntry) -> Result<Entry, MessageError> {
    let mut entry = entry_of(appended.entry.ok_or_else(|| missing("entry"))?)?;
    let expected = payloads(&entry).count();
    if expected != appended.payloads.len() {
        let what = format!("an entry with {expected} payloads came with {}", appended.payloads.len());
        return Err(StorageFailure::Inconsistent { what });
    }
    if let EntryPayload::Normal(Batch(proposals)) = &mut entry.payload {
        let proposals: &mut Vec<Proposal> = Arc::make_mut(proposals);
        let places = proposals.iter_mut().flat_map(|proposal| &mut proposal.ops).filter_map(Op::payload_mut);
        for (place, payload) in places.zip(appended.payloads) {
            place.join(Arc::new(payload.into()));
        }
    }
    Ok(entry)
}

pub(crate) fn append_response(answer: &AppendEntriesResponse<u64>) -> v1::AppendResponse {
    let outcome = match answer {
        AppendEntriesResponse::Success => Outcome::Success(v1::StoredBlank {}),
        AppendEntriesResponse::PartialSuccess(Some(up_to)) => Outcome::Partial(log_id(*up_to)),
        AppendEntriesResponse::PartialSuccess(None) => Outcome::PartialNone(v1::StoredBlank {}),
        AppendEntriesResponse::Conflict => Outcome::Conflict(v1::StoredBlank {}),
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(vote_message(vote)),
    };
    v1::AppendResponse { outcome: Some(outcome), standing: None }
}

pub(crate) fn append_answer(answer: v1::AppendResponse) -> Result<AppendEntriesResponse<u64>, MessageError> {
    Ok(match answer.outcome.ok_or_else(|| missing("outcome"))? {
        Outcome::Success(_) => AppendEntriesResponse::Success,
        Outcome::Partial(up_to) => AppendEntriesResponse::PartialSuccess(Some(log_id_back(up_to))),
        Outcome::PartialNone(_) => AppendEntriesResponse::PartialSuccess(None),
        Outcome::Conflict(_) => AppendEntriesResponse::Conflict,
        Outcome::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_of(vote)),
    })
}

pub(crate) fn vote_request(to: u64, request: &VoteRequest<u64>) -> v1::VoteRequest {
    v1::VoteRequest {
        to,
        vote: Some(vote_message(&request.vote)),
        last: request.last_log_id.map(log_id),
        standing: None,
    }
}

pub(crate) fn vote_request_of(request: v1::VoteRequest) -> Result<VoteRequest<u64>, MessageError> {
    let vote: Vote = vote_of(request.vote.ok_or_else(|| missing("vote"))?);
    Ok(VoteRequest::new(vote, request.last.map(log_id_back)))
}

pub(crate) fn vote_response(answer: &VoteResponse<u64>) -> v1::VoteResponse {
    v1::VoteResponse {
        vote: Some(vote_message(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.map(log_id),
        standing: None,
    }
}

pub(crate) fn vote_answer(answer: v1::VoteResponse) -> Result<VoteResponse<u64>, MessageError> {
    let vote = vote_of(answer.vote.ok_or_else(|| missing("vote"))?);
    Ok(VoteResponse::new(vote, answer.last.map(log_id_back), answer.granted))
}

pub(crate) fn snapshot_answer(answer: v1::SnapshotResponse) -> Result<SnapshotResponse<u64>, MessageError> {
    Ok(SnapshotResponse { vote: vote_of(answer.vote.ok_or_else(|| missing("vote"))?) })
}
