//! Who takes part: changes of membership, and what a leader knows of each member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use openraft::metrics::WaitError;
use openraft::{ChangeMembers, ServerState};
use secretd_proto::id::NodeId;
use tokio::time::{sleep, timeout};

use super::config::{LogId, Metrics, Raft};
use super::reach::Reach;
use crate::peers::Member;
use crate::proposer::ProposeError;

/// How long a new member may take to answer at all.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Between looks whether it has.
const LOOK: Duration = Duration::from_millis(20);
/// How long a new member may take to have the state.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long a change may take to be agreed on.
const AGREE: Duration = Duration::from_secs(10);

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The leader alone changes it.
    #[error("this manager does not lead")]
    NotLeader(Option<Member>),
    /// The manager that is to be taken out is the one that leads.
    #[error("this manager leads: it hands the lead over before it is taken out")]
    Leads,
    /// Another change is under way.
    #[error("another change of managers is under way: repeat this one in a moment")]
    Busy,
    /// Too few of the others answer.
    #[error("{0}")]
    Quorum(String),
    /// The new member has never answered.
    #[error(
        "the manager that leads does not reach the new manager {0}: give the address at which others reach it (--advertise-addr)"
    )]
    Unreached(Member),
    /// The new member does not answer any more, or not fast enough.
    #[error("the new manager {0} has not taken the state in {CATCH_UP:?}: can the other managers reach that address?")]
    NoCatchUp(Member),
    /// The store has stopped.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

/// A member, as this manager knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number in raft.
    pub id: u64,
    /// Who it is.
    pub member: Member,
    /// Whether it votes; one that does not is being brought up to date.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it answers: a leader knows it of others, and who stands for election because nobody leads.
    pub reachable: Option<bool>,
}

/// Who leads, as far as this manager knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Counts leaders.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Member>,
    /// Whether this manager leads and has applied all that was ever acknowledged.
    pub leads: bool,
    /// The nodes that take part, as far as this manager knows.
    pub members: BTreeSet<NodeId>,
}

pub(crate) fn leadership(metrics: &Metrics) -> Leadership {
    let membership = metrics.membership_config.membership();
    let leader = metrics.current_leader.and_then(|id| membership.get_node(&id)).cloned();
    let caught_up = metrics.last_applied.is_some_and(|applied| applied.leader_id.term == metrics.current_term);
    Leadership {
        term: metrics.current_term,
        leader,
        leads: metrics.state == ServerState::Leader && caught_up,
        members: membership.nodes().map(|(_, member)| member.node).collect(),
    }
}

pub(crate) fn members(metrics: &Metrics, reach: &Reach) -> Vec<MemberStatus> {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let asks = metrics.state == ServerState::Leader || metrics.current_leader.is_none();
    let status = |(id, member): (&u64, &Member)| MemberStatus {
        id: *id,
        member: member.clone(),
        voter: voters.contains(id),
        leader: metrics.current_leader == Some(*id),
        reachable: (asks || *id == metrics.id).then(|| *id == metrics.id || reach.is_reachable(*id)),
    };
    membership.nodes().map(status).collect()
}

/// Makes `id` a voter. Repeating it changes nothing, and finishes what was broken off: between two sets of voters both
/// must agree, so a leader that fails there leaves managers behind that count for more than they should.
pub(crate) async fn add(raft: &Raft, reach: &Reach, id: u64, member: Member) -> Result<(), MembershipError> {
    let config = Arc::clone(&raft.metrics().borrow().membership_config);
    let known = config.membership().get_node(&id);
    let sets = config.membership().get_joint_config();
    let votes = sets.iter().all(|voters| voters.contains(&id));
    if votes && sets.len() == 1 && known == Some(&member) {
        return Ok(());
    }
    // A node that was a manager before has left its old number behind: it is nobody's any more.
    let same_node = |(other, old): (&u64, &Member)| (*other != id && old.node == member.node).then_some(*other);
    let old: Vec<u64> = config.membership().nodes().filter_map(same_node).collect();
    for old in old {
        remove(raft, old).await?;
    }
    if votes && known != Some(&member) {
        let moved = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
        return change(raft, moved).await;
    }
    if votes {
        return change(raft, ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await;
    }
    let added = match timeout(AGREE, raft.add_learner(id, member.clone(), false)).await {
        Ok(Ok(added)) => added.log_id,
        Ok(Err(error)) => return Err(refused(error)),
        Err(_) => return Err(not_agreed()),
    };
    // A leader that is half taken out has the state.
    let is_own = raft.metrics().borrow().id == id;
    let caught_up = if is_own { Ok(()) } else { caught_up(raft, reach, id, added).await };
    match caught_up {
        Ok(()) => change(raft, ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await,
        Err(why) => {
            let _ = change(raft, ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await; // it may try again
            Err(match why {
                Behind::Unreached => MembershipError::Unreached(member),
                Behind::NoCatchUp => MembershipError::NoCatchUp(member),
                Behind::NotLeader => MembershipError::NotLeader(None),
                Behind::Stopped(reason) => MembershipError::Stopped(reason),
            })
        }
    }
}

/// Why a new member must not have a vote.
enum Behind {
    Unreached,
    NoCatchUp,
    NotLeader,
    Stopped(String),
}

/// Waits until the new member has everything up to its own admission. The library itself would take one that has never
/// answered for one that is close enough, and its vote could be the one that a majority lacks.
async fn caught_up(raft: &Raft, reach: &Reach, id: u64, added: LogId) -> Result<(), Behind> {
    let answers = async {
        while !reach.is_reachable(id) {
            sleep(LOOK).await;
        }
    };
    if timeout(FIRST_ANSWER, answers).await.is_err() {
        return Err(Behind::Unreached);
    }
    let has_state = |metrics: &Metrics| {
        let matched = metrics.replication.as_ref().and_then(|all| all.get(&id).copied().flatten());
        metrics.state != ServerState::Leader || matched.is_some_and(|matched| matched >= added)
    };
    match raft.wait(Some(CATCH_UP)).metrics(has_state, "the new member has the state").await {
        Ok(metrics) if metrics.state == ServerState::Leader => Ok(()),
        Ok(_) => Err(Behind::NotLeader),
        Err(WaitError::Timeout(..)) => Err(Behind::NoCatchUp),
        Err(WaitError::ShuttingDown) => Err(Behind::Stopped("it is shutting down".to_owned())),
    }
}

/// Takes `id` out. Repeating it changes nothing.
pub(crate) async fn remove(raft: &Raft, id: u64) -> Result<(), MembershipError> {
    let config = Arc::clone(&raft.metrics().borrow().membership_config);
    if config.membership().voter_ids().any(|voter| voter == id) {
        change(raft, ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
    } else if config.membership().get_node(&id).is_some() {
        change(raft, ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await
    } else {
        Ok(())
    }
}

async fn change(raft: &Raft, members: ChangeMembers<u64, Member>) -> Result<(), MembershipError> {
    match timeout(AGREE, raft.change_membership(members, false)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(not_agreed()),
    }
}

fn not_agreed() -> MembershipError {
    MembershipError::Quorum(format!("a majority of the managers has not agreed in {AGREE:?}"))
}

fn refused(error: RaftError<u64, ClientWriteError<u64, Member>>) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => MembershipError::NotLeader(to.leader_node),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) => MembershipError::Busy,
        RaftError::Fatal(fatal) => MembershipError::Stopped(fatal.to_string()),
    }
}

/// Says who does not answer.
pub(crate) fn no_quorum(members: &[MemberStatus]) -> ProposeError {
    let voters = || members.iter().filter(|status| status.voter);
    let missing = voters().filter(|status| status.reachable == Some(false));
    let missing: Vec<Member> = missing.map(|status| status.member.clone()).collect();
    ProposeError::NoQuorum { reachable: voters().count() - missing.len(), voters: voters().count(), missing }
}

/// Whether a majority is left among those that answer when one of the voters goes.
pub fn keeps_quorum(members: &[MemberStatus], without: NodeId) -> bool {
    let left = || members.iter().filter(|status| status.voter && status.member.node != without);
    let reachable = left().filter(|status| status.reachable != Some(false)).count();
    left().count() > 0 && reachable > left().count() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(n: u8, reachable: bool) -> MemberStatus {
        let member = Member { node: NodeId::from_random([n; 16]), address: String::new() };
        MemberStatus { id: u64::from(n), member, voter: true, leader: n == 1, reachable: Some(reachable) }
    }

    #[test]
    fn a_manager_may_go_when_a_majority_of_the_rest_answers() {
        for (reachable, gone, keeps) in [
            (&[true][..], 1, false), // the last
            (&[true, true], 1, true),
            (&[true, false], 2, true), // the one that does not answer
            (&[true, false], 1, false),
            (&[true, true, false], 2, false),
            (&[true, true, false], 3, true),
            (&[true, true, true, false, false], 1, false),
            (&[true, true, true, false, false], 5, true),
        ] {
            let members: Vec<_> = (1..).zip(reachable).map(|(n, up)| status(n, *up)).collect();
            let gone = NodeId::from_random([gone; 16]);
            assert_eq!(keeps_quorum(&members, gone), keeps, "{reachable:?} without {gone}");
        }
    }
}
