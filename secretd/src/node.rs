//! The parts of a node that do not depend on whether it is part of a cluster.

use std::sync::Arc;

use secretd_core::node::NodeDescription;
use secretd_core::seam::clock::Clock;
use secretd_runtime::images::ImageStore;
use secretd_runtime::{ContainerRuntime, SecretFs};
use tokio::sync::watch;

use crate::cluster::keys::KekWatch;

/// What a node has. Clones share it.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) images: ImageStore,
    pub(crate) secret_fs: SecretFs,
    pub(crate) runtime: Arc<ContainerRuntime>,
    pub(crate) description: watch::Receiver<NodeDescription>,
    /// Where the key-encryption key comes from; nobody knows while the node is locked.
    pub(crate) kek: KekWatch,
    /// Why the node is not what it is to be; empty when all is well.
    pub(crate) fault: Arc<watch::Sender<String>>,
}
