//! What happened: the output of applying, and the input of every loop that watches.

use std::sync::Arc;

use secretd_core::node::{Cluster, Node};
use secretd_core::secret::Secret;
use secretd_core::service::Service;
use secretd_core::task::Task;
use secretd_core::time::{Timestamp, Version};

use crate::view::View;

/// One object's change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // `old` and `new` say it
pub enum Event {
    /// The cluster was founded.
    ClusterCreated(Arc<Cluster>),
    /// The cluster has another specification, other keys or tokens.
    ClusterUpdated { old: Arc<Cluster>, new: Arc<Cluster> },
    /// A secret was created.
    SecretCreated(Arc<Secret>),
    /// A secret has another payload or other labels.
    SecretUpdated { old: Arc<Secret>, new: Arc<Secret> },
    /// A secret was removed.
    SecretRemoved(Arc<Secret>),
    /// A service was created.
    ServiceCreated(Arc<Service>),
    /// A service has another specification or update status.
    ServiceUpdated { old: Arc<Service>, new: Arc<Service> },
    /// A service was removed.
    ServiceRemoved(Arc<Service>),
    /// A task was created.
    TaskCreated(Arc<Task>),
    /// A task has another desired state, status or node.
    TaskUpdated { old: Arc<Task>, new: Arc<Task> },
    /// A task was removed.
    TaskRemoved(Arc<Task>),
    /// A node was recorded for the first time.
    NodeCreated(Arc<Node>),
    /// A node has another state, description or role.
    NodeUpdated { old: Arc<Node>, new: Arc<Node> },
    /// A node is no part of the cluster any more.
    NodeRemoved(Arc<Node>),
}

/// One accepted proposal: its events, and the state after it.
#[derive(Debug, Clone)]
pub struct Change {
    /// One more than the change before.
    pub version: Version,
    /// When it was proposed.
    pub at: Timestamp,
    /// In the order of the proposal's operations; never empty.
    pub events: Vec<Event>,
    /// The state right after it.
    pub view: View,
}
