//! What a node is made of that is part of a cluster.

use std::sync::Arc;

use anyhow::Context;
use secretd_agent::{Agent, Deps as AgentDeps};
use secretd_proto::id::NodeId;
use secretd_store::RolledBack;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::credentials::Present;
use super::due::Due;
use super::links::Mesh;
use super::manager_part::ManagerPart;
use super::managers::{KnownManagers, News};
use super::membership::Membership;
use crate::node::Node;

/// Its part in a cluster.
pub(super) struct Part {
    pub(super) membership: Membership,
    pub(super) present: Present,
    pub(super) mesh: Mesh,
    pub(super) managers: KnownManagers,
    pub(super) manager: Option<ManagerPart>,
    /// Makes the agent end every task.
    pub(super) leave: CancellationToken,
    pub(super) agent: JoinHandle<anyhow::Result<()>>,
    pub(super) due: Due,
    /// Why its manager takes part no more.
    pub(super) fault: Option<RolledBack>,
    /// Why a manager is refused.
    pub(super) doubt: Option<String>,
    pub(super) news: mpsc::UnboundedReceiver<News>,
    pub(super) connected: watch::Receiver<bool>,
}

impl Part {
    /// Whether its manager was a member of raft, as far as this node knows.
    pub(super) fn had_vote(&self) -> bool {
        self.fault.is_some() || self.manager.as_ref().is_some_and(ManagerPart::has_joined)
    }

    /// Of a manager: the roots of its state as it is now, also those that count for renewals alone. What the node has been
    /// told of the newest roots may be ahead of that.
    pub(super) fn remembered(&self) -> Vec<Vec<u8>> {
        self.manager.as_ref().and_then(|manager| manager.manager.door().roots()).unwrap_or_default()
    }

    /// Of a manager: whether its state is older than what the node has been told of the authority. A store that has just been
    /// opened, or is being given the log from its beginning, has roots that count no more, and their keys. One that is newer
    /// knows the root that the node was told of: it is remembered for as long as a node has a certificate of it.
    pub(super) fn is_behind(&self) -> bool {
        let state = self.remembered();
        !state.is_empty() && self.membership.roots.first().is_some_and(|newest| !state.contains(newest))
    }

    /// Ends what runs for it. Containers go on.
    pub(super) async fn end(self) {
        self.agent.abort();
        let _ = self.agent.await; // it was told to end
        if let Some(manager) = self.manager {
            manager.stop().await;
        }
    }
}

/// The node's agent, until it is told to leave.
///
/// # Errors
/// When the containers of the node cannot be seen.
pub(super) async fn run_agent(
    node: Node,
    id: NodeId,
    managers: KnownManagers,
    connected: watch::Sender<bool>,
    leave: CancellationToken,
) -> anyhow::Result<()> {
    let agent = Agent::new(AgentDeps {
        node: id,
        managers: Arc::new(managers),
        description: node.description,
        runtime: node.runtime,
        secret_mount: Arc::new(node.secret_fs),
        clock: node.clock,
        connected,
    });
    let agent = agent.await.context("the containers of this node cannot be seen")?;
    agent.run(leave).await;
    Ok(())
}
