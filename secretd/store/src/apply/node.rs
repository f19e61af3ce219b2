//! Operations on nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::node::{Availability, Node, NodeCertificate, NodeDescription, NodeState};
use secretd_core::time::Version;
use secretd_proto::id::NodeId;

use super::Transaction;
use crate::conflict::{Conflict, ObjectKind};
use crate::event::Event;
use crate::state::{Record, RecordKey};

impl Transaction {
    pub(super) fn put_node(&mut self, node: &Node) {
        if let Some(old) = self.state.nodes.get(&node.id).cloned() {
            let new = Node { meta: old.meta, spec_version: old.spec_version, ..node.clone() };
            self.replace_node(&old, new);
            return;
        }
        let node = Arc::new(Node { meta: self.meta_created(), spec_version: self.version, ..node.clone() });
        self.put(Record::Node(Arc::clone(&node)));
        self.events.push(Event::NodeCreated(node));
    }

    pub(super) fn set_node_status(&mut self, id: NodeId, state: NodeState, message: &str) -> Result<(), Conflict> {
        let old = self.node(id)?;
        let new = Node { state, message: message.to_owned(), ..Node::clone(&old) };
        self.replace_node(&old, new);
        Ok(())
    }

    pub(super) fn set_node_description(&mut self, id: NodeId, description: &NodeDescription) -> Result<(), Conflict> {
        let old = self.node(id)?;
        let new = Node { description: description.clone(), ..Node::clone(&old) };
        self.replace_node(&old, new);
        Ok(())
    }

    pub(super) fn set_node_certificate(&mut self, id: NodeId, certificate: NodeCertificate) -> Result<(), Conflict> {
        let old = self.node(id)?;
        let new = Node { certificate: Some(certificate), ..Node::clone(&old) };
        self.replace_node(&old, new);
        Ok(())
    }

    pub(super) fn set_node_spec(
        &mut self,
        id: NodeId,
        expect: Version,
        labels: &BTreeMap<String, String>,
        availability: Availability,
    ) -> Result<(), Conflict> {
        let old = self.node(id)?;
        if (&old.labels, old.availability) == (labels, availability) {
            return Ok(());
        }
        if old.spec_version != expect {
            return Err(Conflict::Changed { kind: ObjectKind::Node });
        }
        let new = Node { labels: labels.clone(), availability, spec_version: self.version, ..Node::clone(&old) };
        self.replace_node(&old, new);
        Ok(())
    }

    pub(super) fn set_node_role(&mut self, id: NodeId, manager: bool) -> Result<(), Conflict> {
        let old = self.node(id)?;
        let new = Node { manager, spec_version: self.version, ..Node::clone(&old) };
        if old.manager != manager {
            self.replace_node(&old, new);
        }
        if old.manager && !manager {
            self.remember_former_manager(id);
        }
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: NodeId) -> Result<(), Conflict> {
        let old = self.node(id)?;
        self.remove(RecordKey::Node(id));
        if old.manager {
            self.remember_former_manager(id);
        }
        self.events.push(Event::NodeRemoved(old));
        Ok(())
    }

    fn replace_node(&mut self, old: &Arc<Node>, mut new: Node) {
        if new == **old {
            return;
        }
        new.meta = self.meta_updated(old.meta);
        let new = Arc::new(new);
        self.put(Record::Node(Arc::clone(&new)));
        self.events.push(Event::NodeUpdated { old: Arc::clone(old), new });
    }

    fn node(&self, id: NodeId) -> Result<Arc<Node>, Conflict> {
        let found = self.state.nodes.get(&id).cloned();
        found.ok_or_else(|| Conflict::NotFound { kind: ObjectKind::Node, id: id.to_string() })
    }
}
