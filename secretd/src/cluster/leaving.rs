//! Leaving a cluster: the node's tasks end, and nothing of the cluster stays on its disk.

use std::time::Duration;

use anyhow::Context;
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::control_client::ControlClient;
use secretd_sealing::node_keys::NodeKeys;
use secretd_store::{MemberStatus, Replica};
use tokio::time::timeout;

use super::keys::{Keys, seconds};
use super::lifecycle::Lifecycle;
use super::manager_part::ManagerPart;
use super::membership::{Membership, Stage};
use super::part::Part;
use super::refusals;
use crate::credential;

/// How long the other managers may take to go on without this one.
const FAREWELL: Duration = Duration::from_secs(12);
/// A cluster of which a majority is there has a leader again within this time.
const LEADERLESS: Duration = Duration::from_secs(3);
/// Between two looks at who leads.
const LOOK: Duration = Duration::from_secs(1);
/// Of a manager whose store went back.
const VOTE_COUNTS: &str =
    "the other managers count this node's vote until it is demoted: run \"sctl node demote\" for it on one of them";

impl Lifecycle {
    pub(super) async fn leave(&mut self, request: v1::LeaveClusterRequest) -> Result<String, Refusal> {
        if matches!(self.keys, Keys::Locked(_)) {
            return self.leave_locked(request.force).map(|()| format!("if this node was a manager: {VOTE_COUNTS}"));
        }
        let mut warning = String::new();
        let Some(part) = &self.part else { return Err(refusals::not_part()) };
        if part.fault.is_some() {
            if !request.force {
                return Err(Refusal::new(Code::InUse, format!("{VOTE_COUNTS}, or use --force to ignore this message")));
            }
            VOTE_COUNTS.clone_into(&mut warning);
            tracing::warn!("{warning}");
        } else if let Some(manager) = &part.manager {
            if !request.force {
                return Err(Refusal::new(Code::InUse, consequence(manager)));
            }
            warning = say_farewell(part, manager).await.unwrap_or_default();
            if !warning.is_empty() {
                tracing::warn!("{warning}");
            }
        }
        self.go().await.map_err(|error| refusals::failed(&error))?;
        Ok(warning)
    }

    /// What cannot be opened is thrown away, keys and all.
    fn leave_locked(&mut self, force: bool) -> Result<(), Refusal> {
        if !force {
            let message = "the cluster is encrypted and locked: unlock it first, or use --force to ignore this message";
            return Err(Refusal::new(Code::Locked, message));
        }
        let outcome = self.forget().and_then(|()| {
            let keys = self.data.join("keys");
            std::fs::remove_dir_all(&keys).with_context(|| keys.to_string())?;
            let opened =
                NodeKeys::open_or_create(keys.as_std_path(), credential::read()?, seconds(self.node.clock.now()))?;
            self.keys = Keys::new(opened);
            self.tell_kek();
            Ok(())
        });
        outcome.map_err(|error| refusals::failed(&error))
    }

    async fn go(&mut self) -> anyhow::Result<()> {
        let Some(part) = &self.part else { return Ok(()) };
        self.file()?.save(&Membership { stage: Stage::Leaving, ..part.membership.clone() })?;
        // Whatever happens from now on, the node is not a member any more when it starts again.
        let Some(mut part) = self.part.take() else { return Ok(()) };
        part.leave.cancel();
        self.slot.close(refusals::not_in_cluster());
        part.managers.set_own(None);
        if let Some(manager) = part.manager.take() {
            manager.stop().await;
        }
        if let Err(error) = part.agent.await {
            anyhow::bail!("the node's tasks have not ended: {error}");
        }
        self.forget()?;
        self.follow_autolock().await;
        Ok(())
    }
}

/// A manager that leaves takes its vote with it, so that the others need not wait for it for ever.
/// In one line what is to be known if they cannot be told.
async fn say_farewell(part: &Part, manager: &ManagerPart) -> Option<String> {
    let replica = manager.store.replica()?;
    if replica.members().len() < 2 {
        return None;
    }
    let request = v1::UpdateClusterNodeRequest {
        reference: part.membership.node.to_string(),
        manager: Some(false),
        ..v1::UpdateClusterNodeRequest::default()
    };
    // It is answered when the others do without this one's vote.
    let mut control = ControlClient::new(manager.own.pipe.clone());
    let farewell = timeout(FAREWELL, control.update_node(request));
    let outcome = tokio::select! {
        outcome = farewell => outcome,
        () = nobody_agrees(replica) => return Some(
            "a majority of the managers does not answer, so this node has left without their word: its vote counts still, demote it when they are back".to_owned(),
        ),
    };
    match outcome {
        Ok(Ok(_)) => None,
        Ok(Err(status)) => Some(format!("the other managers keep this node's vote: {}", status.message())),
        Err(_) => Some("the other managers have not said whether they go on without this node".to_owned()),
    }
}

/// Returns when nobody has led for a while who has a majority.
async fn nobody_agrees(replica: &Replica) {
    loop {
        let mut leadership = replica.watch_leadership();
        let led = async {
            while let Some(now) = leadership.next().await {
                let has_majority = if now.leads { replica.linearize().await.is_ok() } else { now.leader.is_some() };
                if has_majority {
                    return;
                }
            }
        };
        if timeout(LEADERLESS, led).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What becomes of the cluster without this manager. Docker's words where Docker has them.
fn consequence(manager: &ManagerPart) -> String {
    let members = manager.store.replica().map(Replica::members).unwrap_or_default();
    let voters: Vec<&MemberStatus> = members.iter().filter(|member| member.voter).collect();
    let reachable = voters.iter().filter(|member| member.reachable != Some(false)).count();
    warning(manager.has_joined(), voters.len(), reachable)
}

/// Of a manager that takes part, or is about to, with so many that vote and that answer, itself among them.
fn warning(takes_part: bool, voters: usize, reachable: usize) -> String {
    if !takes_part {
        return "this node is about to take part as a manager, and the others may count its vote already: demote it on one of them with \"sctl node demote\" first, or use --force to ignore this message".to_owned();
    }
    let begin = "you are attempting to leave the cluster on a node that is participating as a manager";
    let consequence = match (voters, reachable) {
        (0 | 1, _) => {
            "removing the last manager erases all current state of the cluster: use --force to ignore this message"
                .to_owned()
        }
        (all, reachable) if reachable.saturating_sub(1) * 2 < all => format!(
            "removing this node leaves {} managers out of {all}; without a quorum the cluster will be inaccessible, and the only way to restore it is \"sctl cluster init --force-new-cluster\": use --force to suppress this message",
            reachable.saturating_sub(1)
        ),
        _ => "demote it first with \"sctl node demote self\", or use --force, which does the same".to_owned(),
    };
    format!("{begin}: {consequence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_told_what_becomes_of_the_cluster() {
        for (takes_part, voters, reachable, words) in [
            (true, 1, 1, "removing the last manager erases all current state"),
            (true, 3, 3, "demote it first"),
            (true, 3, 2, "leaves 1 managers out of 3; without a quorum"),
            (true, 2, 2, "demote it first"),
            (true, 2, 1, "leaves 0 managers out of 2; without a quorum"),
            (false, 0, 0, "about to take part as a manager"),
            (false, 2, 1, "about to take part as a manager"),
        ] {
            let line = warning(takes_part, voters, reachable);
            assert!(line.contains(words) && line.contains("--force"), "{takes_part} {voters} {reachable}: {line}");
        }
    }
}
