//! Going on alone when the majority of managers is lost: this one keeps the state, and the others lose their say.

use std::time::Duration;

use anyhow::Context;
use secretd_core::node::Node;
use secretd_manager::found::new_epoch;
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_store::{Member, Op, Store};
use tokio::time::timeout;

use super::founding::worker_token;
use super::keys::Keys;
use super::lifecycle::Lifecycle;
use super::manager_part::ManagerPart;
use super::refusals;
use super::renewal::others_answer;

/// How long a majority is listened for before it counts as lost.
const MAJORITY: Duration = Duration::from_secs(3);

impl Lifecycle {
    pub(super) async fn go_on_alone(&mut self) -> Result<v1::InitClusterResponse, Refusal> {
        if matches!(self.keys, Keys::Locked(_)) {
            return Err(refusals::locked());
        }
        let Some(part) = &self.part else { return Err(refusals::not_part()) };
        let has_majority = match (&part.manager, &part.fault) {
            (Some(manager), _) => has_majority(manager).await,
            // Without a manager of its own the node asks as any other does, and all of them.
            (None, Some(_)) => others_answer(part).await.map_err(|error| refusals::failed(&error))?,
            (None, None) => return Err(refusals::worker()),
        };
        if has_majority {
            let message = "a majority of the managers answers: demote the others with \"sctl node demote\" instead";
            return Err(Refusal::new(Code::InUse, message));
        }
        let failed = |error: anyhow::Error| refusals::failed(&error);
        let restarted = self.restart_alone().await;
        if self.part.is_none()
            && let Err(error) = &restarted
        {
            return Err(self.get_stuck(error));
        }
        restarted.map_err(failed)?;
        let Some(part) = &self.part else { return Err(refusals::not_part()) };
        let Some(manager) = &part.manager else { return Err(refusals::not_part()) };
        let own = part.membership.node;
        let view = manager.store.view();
        let others = view.nodes().filter(|node| node.manager && node.id != own);
        let demote = |node: &std::sync::Arc<Node>| Op::SetNodeRole { id: node.id, manager: false };
        let mut ops: Vec<Op> = others.map(demote).collect();
        ops.extend(new_epoch(&manager.store, self.node.clock.now()));
        manager.store.propose(ops).await?;
        tracing::warn!("this manager goes on alone");
        // No other state counts, whatever the node has been told by those that are lost.
        self.reissue().map_err(failed)?;
        let Some(part) = &self.part else { return Err(refusals::not_part()) };
        let Some(manager) = &part.manager else { return Err(refusals::not_part()) };
        let record = manager.store.view().cluster_record().cloned().ok_or_else(refusals::not_part)?;
        Ok(v1::InitClusterResponse {
            cluster_id: part.membership.cluster.to_string(),
            node_id: own.to_string(),
            unlock_key: String::new(),
            worker_token: worker_token(&record).map_err(failed)?,
            address: part.membership.address.to_string(),
        })
    }

    /// Closes the store, makes it one of a single manager, and opens it again.
    async fn restart_alone(&mut self) -> anyhow::Result<()> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let mut membership = part.membership.clone();
        part.end().await;
        let own = Member { node: membership.node, address: membership.address.to_string() };
        let directory = self.data.join("store");
        let made = Store::make_alone(&directory, self.keys.open()?.sealer(), own.clone()).await;
        if made.is_ok() {
            membership.managers = vec![own.address];
            if let Err(error) = self.file()?.save(&membership) {
                tracing::error!(error = &*error, "that this node is the only manager cannot be saved");
            }
        }
        // Whatever came of it, the node goes on as what it is.
        let listener = self.bind(&membership).await?;
        self.begin(membership, Some(listener)).await?;
        made.context("the store cannot be made that of one manager")
    }
}

/// Whether a read is sure of being the newest, here or at a leader.
async fn has_majority(manager: &ManagerPart) -> bool {
    let Some(replica) = manager.store.replica() else { return true };
    if replica.members().iter().filter(|member| member.voter).count() == 1 {
        return false; // nobody else: it begins a new epoch
    }
    let mut leadership = replica.watch_leadership();
    let asked = async {
        loop {
            match leadership.next().await {
                Some(now) if now.leads => return replica.linearize().await.is_ok(),
                // A leader that is heard of has a majority, or knows better within an election.
                Some(now) if now.leader.is_some() => tokio::time::sleep(MAJORITY / 2).await,
                Some(_) => {}
                None => return false,
            }
            if replica.leadership().leader.is_some() && !replica.leadership().leads {
                return true;
            }
        }
    };
    timeout(MAJORITY, asked).await.unwrap_or(false)
}
