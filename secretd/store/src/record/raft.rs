//! Raft's records: log ids, votes, membership, entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{CommittedLeaderId, EntryPayload};
use prost::Message;
use secretd_core::time::{Timestamp, Version};
use secretd_core::wire::WireError;
use secretd_proto::v1;
use secretd_proto::v1::stored_entry::Content;

use super::{message, op, required, unknown};
use crate::failure::StorageFailure;
use crate::op::Proposal;
use crate::peers::Member;
use crate::raft::config::{Batch, Entry, LogId, Membership, StoredMembership, Vote};

/// Up to where the state is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) version: Version,
}

pub(crate) fn encode_applied(applied: &Applied) -> Vec<u8> {
    applied_message(applied).encode_to_vec()
}

pub(crate) fn applied_message(applied: &Applied) -> v1::StoredApplied {
    v1::StoredApplied {
        log_id: applied.log_id.map(log_id),
        membership_log_id: applied.membership.log_id().map(log_id),
        membership: Some(membership(applied.membership.membership())),
        version: applied.version.0,
    }
}

pub(crate) fn decode_applied(bytes: &[u8]) -> Result<Applied, StorageFailure> {
    applied_of(message(bytes)?)
}

pub(crate) fn applied_of(stored: v1::StoredApplied) -> Result<Applied, StorageFailure> {
    let membership = membership_back(stored.membership.unwrap_or_default())?;
    Ok(Applied {
        log_id: stored.log_id.map(log_id_back),
        membership: StoredMembership::new(stored.membership_log_id.map(log_id_back), membership),
        version: Version(stored.version),
    })
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    vote_message(vote).encode_to_vec()
}

pub(crate) fn vote_message(vote: &Vote) -> v1::StoredVote {
    v1::StoredVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, StorageFailure> {
    message(bytes).map(vote_of)
}

pub(crate) fn vote_of(stored: v1::StoredVote) -> Vote {
    let v1::StoredVote { term, node, committed } = stored;
    if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) }
}

pub(crate) fn encode_log_id(id: LogId) -> Vec<u8> {
    log_id(id).encode_to_vec()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, StorageFailure> {
    message(bytes).map(log_id_back)
}

/// A log entry without the bytes of its payloads, which have records of their own.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    entry_message(entry).encode_to_vec()
}

/// As [`encode_entry`], before it becomes bytes.
pub(crate) fn entry_message(entry: &Entry) -> v1::StoredEntry {
    let content = match &entry.payload {
        EntryPayload::Blank => Content::Blank(v1::StoredBlank {}),
        EntryPayload::Membership(changed) => Content::Membership(membership(changed)),
        EntryPayload::Normal(Batch(proposals)) => {
            Content::Batch(v1::StoredBatch { proposals: proposals.iter().map(proposal).collect() })
        }
    };
    v1::StoredEntry { log_id: Some(log_id(entry.log_id)), content: Some(content) }
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, StorageFailure> {
    entry_of(message(bytes)?)
}

/// As [`entry_message`], backwards.
pub(crate) fn entry_of(stored: v1::StoredEntry) -> Result<Entry, StorageFailure> {
    let payload = match required("content", stored.content)? {
        Content::Blank(v1::StoredBlank {}) => EntryPayload::Blank,
        Content::Membership(changed) => EntryPayload::Membership(membership_back(changed)?),
        Content::Batch(batch) => {
            let proposals = batch.proposals.into_iter().map(proposal_back).collect::<Result<_, _>>()?;
            EntryPayload::Normal(Batch(Arc::new(proposals)))
        }
    };
    Ok(Entry { log_id: log_id_back(required("log_id", stored.log_id)?), payload })
}

fn proposal(proposal: &Proposal) -> v1::StoredProposal {
    v1::StoredProposal { at_unix_nanos: proposal.at.0, ops: proposal.ops.iter().map(op::to_stored).collect() }
}

fn proposal_back(stored: v1::StoredProposal) -> Result<Proposal, StorageFailure> {
    let ops = stored.ops.into_iter().map(op::from_stored).collect::<Result<_, _>>()?;
    Ok(Proposal { at: Timestamp(stored.at_unix_nanos), ops })
}

pub(crate) fn log_id(log_id: LogId) -> v1::StoredLogId {
    v1::StoredLogId { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
}

pub(crate) fn log_id_back(stored: v1::StoredLogId) -> LogId {
    LogId::new(CommittedLeaderId::new(stored.term, stored.node), stored.index)
}

fn membership(membership: &Membership) -> v1::StoredMembership {
    let voters = |config: &BTreeSet<u64>| v1::StoredVoters { nodes: config.iter().copied().collect() };
    let member = |(id, member): (&u64, &Member)| v1::StoredMember {
        id: *id,
        node_id: member.node.to_string(),
        address: member.address.clone(),
    };
    v1::StoredMembership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        members: membership.nodes().map(member).collect(),
    }
}

fn membership_back(stored: v1::StoredMembership) -> Result<Membership, StorageFailure> {
    let configs = stored.configs.into_iter().map(|voters| voters.nodes.into_iter().collect()).collect();
    let mut members: BTreeMap<u64, Member> = BTreeMap::new();
    for v1::StoredMember { id, node_id, address } in stored.members {
        let node = node_id.parse().map_err(|error| unknown(WireError::new("node_id", error)))?;
        members.insert(id, Member { node, address });
    }
    Ok(Membership::new(configs, members))
}
