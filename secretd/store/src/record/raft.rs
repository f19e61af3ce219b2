//! Raft's records: log ids, votes, membership, entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::{CommittedLeaderId, EmptyNode, EntryPayload};
use prost::Message;
use secretd_core::time::{Timestamp, Version};
use secretd_proto::v1;
use secretd_proto::v1::stored_entry::Content;

use super::{message, op, required};
use crate::failure::StorageFailure;
use crate::op::Proposal;
use crate::raft::config::{Batch, Entry, LogId, Membership, StoredMembership, Vote};

/// Up to where the state is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) version: Version,
}

pub(crate) fn encode_applied(applied: &Applied) -> Vec<u8> {
    v1::StoredApplied {
        log_id: applied.log_id.map(log_id),
        membership_log_id: applied.membership.log_id().map(log_id),
        membership: Some(membership(applied.membership.membership())),
        version: applied.version.0,
    }
    .encode_to_vec()
}

pub(crate) fn decode_applied(bytes: &[u8]) -> Result<Applied, StorageFailure> {
    let stored: v1::StoredApplied = message(bytes)?;
    let membership = membership_back(stored.membership.unwrap_or_default());
    Ok(Applied {
        log_id: stored.log_id.map(log_id_back),
        membership: StoredMembership::new(stored.membership_log_id.map(log_id_back), membership),
        version: Version(stored.version),
    })
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    v1::StoredVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
        .encode_to_vec()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, StorageFailure> {
    let v1::StoredVote { term, node, committed } = message(bytes)?;
    Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

pub(crate) fn encode_log_id(id: LogId) -> Vec<u8> {
    log_id(id).encode_to_vec()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, StorageFailure> {
    message(bytes).map(log_id_back)
}

/// A log entry without the bytes of its payloads, which have records of their own.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let content = match &entry.payload {
        EntryPayload::Blank => Content::Blank(v1::StoredBlank {}),
        EntryPayload::Membership(changed) => Content::Membership(membership(changed)),
        EntryPayload::Normal(Batch(proposals)) => {
            Content::Batch(v1::StoredBatch { proposals: proposals.iter().map(proposal).collect() })
        }
    };
    v1::StoredEntry { log_id: Some(log_id(entry.log_id)), content: Some(content) }.encode_to_vec()
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, StorageFailure> {
    let stored: v1::StoredEntry = message(bytes)?;
    let payload = match required("content", stored.content)? {
        Content::Blank(v1::StoredBlank {}) => EntryPayload::Blank,
        Content::Membership(changed) => EntryPayload::Membership(membership_back(changed)),
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

fn log_id(log_id: LogId) -> v1::StoredLogId {
    v1::StoredLogId { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
}

fn log_id_back(stored: v1::StoredLogId) -> LogId {
    LogId::new(CommittedLeaderId::new(stored.term, stored.node), stored.index)
}

fn membership(membership: &Membership) -> v1::StoredMembership {
    let voters = |config: &BTreeSet<u64>| v1::StoredVoters { nodes: config.iter().copied().collect() };
    v1::StoredMembership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        nodes: membership.nodes().map(|(id, EmptyNode {})| *id).collect(),
    }
}

fn membership_back(stored: v1::StoredMembership) -> Membership {
    let configs = stored.configs.into_iter().map(|voters| voters.nodes.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, EmptyNode> = stored.nodes.into_iter().map(|id| (id, EmptyNode {})).collect();
    Membership::new(configs, nodes)
}
