//! The agent, put together.

use std::sync::Arc;

use secretd_core::node::NodeDescription;
use secretd_core::seam::clock::Clock;
use secretd_core::seam::runtime::{ContainerError, Runtime};
use secretd_core::seam::secret_mount::SecretMount;
use secretd_proto::id::NodeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::managers::Managers;
use crate::report::Reports;
use crate::runner::Context;
use crate::secrets::Payloads;
use crate::session::Sessions;
use crate::worker::Worker;

/// What an agent needs.
#[derive(Debug)]
pub struct Deps {
    /// Which node this is.
    pub node: NodeId,
    /// The way to the managers.
    pub managers: Arc<dyn Managers>,
    /// What the node says of itself, as it changes: above all the key of secret-fs.
    pub description: watch::Receiver<NodeDescription>,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Secrets.
    pub secret_mount: Arc<dyn SecretMount>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Told when a manager has taken the node, the first time and again.
    pub connected: watch::Sender<bool>,
}

/// The node's side of the cluster.
#[derive(Debug)]
pub struct Agent(Sessions);

impl Agent {
    /// An agent that has looked at what an earlier secretd has left.
    ///
    /// # Errors
    /// When that cannot be seen: an agent that began all the same would start everything twice.
    pub async fn new(deps: Deps) -> Result<Self, ContainerError> {
        let Deps { node, managers, description, runtime, secret_mount, clock, connected } = deps;
        let observed = runtime.list().await?;
        let reports = Reports::default();
        let context = Context {
            node,
            runtime: Arc::clone(&runtime),
            secret_mount,
            clock,
            payloads: Payloads::default(),
            reports: reports.clone(),
        };
        let worker = Worker::new(context, observed);
        Ok(Self(Sessions {
            node,
            managers,
            description,
            reports,
            runtime,
            worker,
            connected,
            running: Arc::default(),
            current: None,
        }))
    }

    /// Serves until `leave` is cancelled: then every task of this node ends, and this returns when nothing is left of them.
    /// Dropping the future leaves the containers as they are.
    pub async fn run(mut self, leave: CancellationToken) {
        if leave.run_until_cancelled(self.0.run()).await.is_none() {
            self.0.worker.end_all().await;
            self.0.say_goodbye().await;
        }
    }
}
