//! How far the cluster's state has come, as nodes are told: they refuse a manager whose state is older than what they have
//! seen, because its data directory was put back to an earlier copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_store::Store;

use crate::refusal::Refusal;

/// What this manager says of its state. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Positions {
    store: Store,
    /// The nodes that have seen more: each is told of once.
    doubting: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Positions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, doubting: Arc::default() }
    }

    /// How far the state is here.
    pub(crate) fn present(&self) -> v1::ClusterPosition {
        let view = self.store.view();
        v1::ClusterPosition {
            epoch: view.cluster().map_or(0, |cluster| cluster.epoch),
            version: view.version().0,
            store: self.store.replica().map(secretd_store::Replica::position),
        }
    }

    /// The same, once it is sure that nothing newer was acknowledged: a leader that was replaced must not look like one
    /// that went back.
    pub(crate) async fn newest(&self) -> Result<v1::ClusterPosition, Refusal> {
        if let Some(replica) = self.store.replica() {
            replica.linearize().await?;
        }
        Ok(self.present())
    }

    /// Whether this manager's store was where `node` has seen it.
    pub(crate) fn vouch(&self, node: NodeId, seen: &[v1::StoredWitnessed]) -> Result<(), Refusal> {
        let Some(replica) = self.store.replica() else { return Ok(()) };
        if seen.iter().all(|seen| replica.was_at(seen)) {
            let view = self.store.view();
            let mut doubting = self.doubting.lock();
            let before = doubting.len();
            doubting.retain(|other| *other != node && view.node(other).is_some());
            if doubting.len() < before && doubting.is_empty() {
                replica.doubt(None);
            }
            return Ok(());
        }
        let what = "has seen a later state of this manager's store: was its data directory rolled back?";
        let todo = "restore the cluster from a backup, or go on with what is here by \"sctl cluster init --force-new-cluster\"";
        if self.doubting.lock().insert(node) {
            let line = format!("node {node} {what} {todo}");
            tracing::error!("{line}");
            replica.doubt(Some(line));
        }
        Err(Refusal::new(Code::RolledBack, format!("this node {what} On the manager, {todo}")))
    }
}
