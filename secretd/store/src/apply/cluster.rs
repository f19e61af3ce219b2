//! Operations on the cluster itself, and the admission of nodes.

use std::sync::Arc;

use secretd_core::node::{Cluster, Node};
use secretd_core::time::Version;
use secretd_proto::id::NodeId;
use secretd_sealing::secret::KeyBytes;

use super::Transaction;
use crate::cluster::{ClusterRecord, FORMER_MANAGERS, JoinSecret, JoinSecretRefusal};
use crate::conflict::{Conflict, ObjectKind};
use crate::event::Event;
use crate::state::Record;

impl Transaction {
    pub(super) fn init_cluster(&mut self, record: &ClusterRecord) -> Result<(), Conflict> {
        if self.state.cluster.is_some() {
            return Err(Conflict::AlreadyInitialized);
        }
        let cluster = Arc::new(Cluster { meta: self.meta_created(), ..Cluster::clone(&record.cluster) });
        self.put(Record::Cluster(ClusterRecord { cluster: Arc::clone(&cluster), ..record.clone() }));
        self.events.push(Event::ClusterCreated(cluster));
        Ok(())
    }

    pub(super) fn update_cluster(&mut self, expect: Version, record: &ClusterRecord) -> Result<(), Conflict> {
        let old = self.state.cluster.clone().ok_or(Conflict::NotInitialized)?;
        if old.cluster.meta.version != expect || old.cluster.id != record.cluster.id {
            return Err(Conflict::Changed { kind: ObjectKind::Cluster });
        }
        self.replace_cluster(&old, record);
        Ok(())
    }

    pub(super) fn replace_cluster(&mut self, old: &ClusterRecord, new: &ClusterRecord) {
        let meta = self.meta_updated(old.cluster.meta);
        let cluster = Arc::new(Cluster { meta, ..Cluster::clone(&new.cluster) });
        // Whoever has made the new record may have seen an older list.
        let former_managers = old.former_managers.clone();
        self.put(Record::Cluster(ClusterRecord { cluster: Arc::clone(&cluster), former_managers, ..new.clone() }));
        self.events.push(Event::ClusterUpdated { old: Arc::clone(&old.cluster), new: cluster });
    }

    /// No change of the cluster as others see it: it gets no new version.
    pub(super) fn remember_former_manager(&mut self, id: NodeId) {
        let Some(mut record) = self.state.cluster.clone() else { return };
        record.former_managers.retain(|known| *known != id);
        let surplus = (record.former_managers.len() + 1).saturating_sub(FORMER_MANAGERS);
        record.former_managers.drain(..surplus);
        record.former_managers.push(id);
        self.put(Record::Cluster(record));
    }

    pub(super) fn admit_node(&mut self, node: &Node, secret: &KeyBytes) -> Result<(), Conflict> {
        let record = self.state.cluster.clone().ok_or(Conflict::NotInitialized)?;
        let token = if node.manager { &record.keys.manager } else { &record.keys.worker };
        // Managers have compared it in constant time before: this repeats it where it cannot change any more.
        if token.secret.expose() != secret.expose() {
            return Err(Conflict::JoinToken(JoinSecretRefusal::Unknown));
        }
        token.counts(self.at).map_err(Conflict::JoinToken)?;
        if self.state.nodes.contains_key(&node.id) {
            return Err(Conflict::IdTaken { kind: ObjectKind::Node, id: node.id.to_string() });
        }
        if let Some(left) = token.uses_left {
            let token = JoinSecret { uses_left: Some(left.saturating_sub(1)), ..token.clone() };
            let mut keys = record.keys.clone();
            if node.manager {
                keys.manager = token;
            } else {
                keys.worker = token;
            }
            let new = ClusterRecord { keys, ..record.clone() };
            self.replace_cluster(&record, &new);
        }
        self.put_node(node);
        Ok(())
    }
}
