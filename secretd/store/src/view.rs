//! What readers see: one immutable state. Holding a view blocks nobody and never changes.

use std::sync::Arc;

use secretd_core::node::{Cluster, Node};
use secretd_core::secret::{Secret, SecretVersion};
use secretd_core::service::Service;
use secretd_core::task::Task;
use secretd_core::time::Version;
use secretd_proto::id::{NodeId, SecretId, ServiceId, TaskId};
use secretd_proto::name::{SecretName, ServiceName};
use secretd_sealing::key::PrivateKey;

use crate::cluster::ClusterRecord;
use crate::op::PayloadRef;
use crate::state::State;

/// An immutable snapshot of the state. Cloning it costs one reference count. Iterators go by id.
#[derive(Debug, Clone, Default)]
pub struct View(Arc<State>);

impl View {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(state))
    }

    pub(crate) fn state(&self) -> &State {
        &self.0
    }

    /// Counts accepted changes; 0 for an empty state.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The cluster, once it is founded.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.0.cluster.as_ref().map(|record| &record.cluster)
    }

    /// The key that opens what clients seal to the cluster.
    pub fn sealing_key(&self) -> Option<Arc<PrivateKey>> {
        self.0.cluster.as_ref().map(|record| Arc::clone(&record.keys.sealing))
    }

    /// The cluster with its keys.
    pub fn cluster_record(&self) -> Option<&ClusterRecord> {
        self.0.cluster.as_ref()
    }

    /// A secret by its id.
    pub fn secret(&self, id: &SecretId) -> Option<&Arc<Secret>> {
        self.0.secrets.get(id).map(|record| &record.secret)
    }

    /// A secret by its name.
    pub fn secret_by_name(&self, name: &SecretName) -> Option<&Arc<Secret>> {
        self.0.secret_names.get(name).and_then(|id| self.secret(id))
    }

    /// All secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.0.secrets.values().map(|record| &record.secret)
    }

    /// Bytes of plaintext of one kept version of a secret.
    pub fn payload_length(&self, id: &SecretId, version: SecretVersion) -> Option<u32> {
        self.0.secrets.get(id).and_then(|record| record.payloads.get(version)).map(|kept| kept.length)
    }

    pub(crate) fn payload_ref(&self, id: &SecretId, version: SecretVersion) -> Option<PayloadRef> {
        self.0.secrets.get(id).and_then(|record| record.payloads.get(version)).map(|kept| kept.at)
    }

    /// A service by its id.
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        self.0.services.get(id)
    }

    /// A service by its name.
    pub fn service_by_name(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.0.service_names.get(name).and_then(|id| self.service(id))
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.0.services.values()
    }

    /// The names, sorted, of the services whose specification grants a secret.
    pub fn services_using(&self, secret: &SecretId) -> Vec<ServiceName> {
        let users = self.0.services_using.get(secret).into_iter().flat_map(|users| users.iter());
        let mut names: Vec<_> =
            users.filter_map(|id| self.service(id)).map(|service| service.spec.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// A task by its id.
    pub fn task(&self, id: &TaskId) -> Option<&Arc<Task>> {
        self.0.tasks.get(id)
    }

    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.0.tasks.values()
    }

    /// The tasks of a service, also of one that is removed.
    pub fn tasks_of_service(&self, service: &ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let ids = self.0.tasks_of_service.get(service).into_iter().flat_map(|ids| ids.iter());
        ids.filter_map(|id| self.task(id))
    }

    /// The tasks that are assigned to a node.
    pub fn tasks_of_node(&self, node: &NodeId) -> impl Iterator<Item = &Arc<Task>> {
        let ids = self.0.tasks_of_node.get(node).into_iter().flat_map(|ids| ids.iter());
        ids.filter_map(|id| self.task(id))
    }

    /// The tasks whose own specification grants a secret.
    pub fn tasks_using(&self, secret: &SecretId) -> impl Iterator<Item = &Arc<Task>> {
        let ids = self.0.tasks_using.get(secret).into_iter().flat_map(|ids| ids.iter());
        ids.filter_map(|id| self.task(id))
    }

    /// A node by its id.
    pub fn node(&self, id: &NodeId) -> Option<&Arc<Node>> {
        self.0.nodes.get(id)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.0.nodes.values()
    }
}
