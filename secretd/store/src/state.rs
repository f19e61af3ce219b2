//! The replicated state in memory: metadata in persistent maps, so that a snapshot of it costs nothing.
//!
//! Deliberately absent: payloads. The state knows where each one is ([`PayloadRef`]), never its bytes.

use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use secretd_core::node::Node;
use secretd_core::secret::Secret;
use secretd_core::service::Service;
use secretd_core::task::Task;
use secretd_core::time::Version;
use secretd_proto::id::{NodeId, SecretId, ServiceId, TaskId};
use secretd_proto::name::{SecretName, ServiceName};

use crate::cluster::ClusterRecord;
use crate::kept::KeptPayloads;
use crate::op::PayloadRef;

type Map<K, V> = RedBlackTreeMapSync<K, V>;
type Set<T> = RedBlackTreeSetSync<T>;

/// A secret, and where the payloads are that are kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretRecord {
    pub(crate) secret: Arc<Secret>,
    pub(crate) payloads: KeptPayloads,
}

/// Names one record of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RecordKey {
    Cluster,
    Secret(SecretId),
    Service(ServiceId),
    Task(TaskId),
    Node(NodeId),
}

/// One record of the state.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Cluster(ClusterRecord),
    Secret(Arc<SecretRecord>),
    Service(Arc<Service>),
    Task(Arc<Task>),
    Node(Arc<Node>),
}

/// The whole state. Cloning shares everything.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Counts accepted changes.
    pub(crate) version: Version,
    pub(crate) cluster: Option<ClusterRecord>,
    pub(crate) secrets: Map<SecretId, Arc<SecretRecord>>,
    pub(crate) services: Map<ServiceId, Arc<Service>>,
    pub(crate) tasks: Map<TaskId, Arc<Task>>,
    pub(crate) nodes: Map<NodeId, Arc<Node>>,
    // What follows is derived, and kept true by `put` and `remove`.
    pub(crate) secret_names: Map<SecretName, SecretId>,
    pub(crate) service_names: Map<ServiceName, ServiceId>,
    pub(crate) tasks_of_service: Map<ServiceId, Set<TaskId>>,
    pub(crate) tasks_of_node: Map<NodeId, Set<TaskId>>,
    pub(crate) services_using: Map<SecretId, Set<ServiceId>>,
    pub(crate) tasks_using: Map<SecretId, Set<TaskId>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: Version(0),
            cluster: None,
            secrets: Map::new_sync(),
            services: Map::new_sync(),
            tasks: Map::new_sync(),
            nodes: Map::new_sync(),
            secret_names: Map::new_sync(),
            service_names: Map::new_sync(),
            tasks_of_service: Map::new_sync(),
            tasks_of_node: Map::new_sync(),
            services_using: Map::new_sync(),
            tasks_using: Map::new_sync(),
        }
    }
}

impl State {
    /// The record of `key`, if there is one.
    pub(crate) fn get(&self, key: RecordKey) -> Option<Record> {
        match key {
            RecordKey::Cluster => self.cluster.clone().map(Record::Cluster),
            RecordKey::Secret(id) => self.secrets.get(&id).cloned().map(Record::Secret),
            RecordKey::Service(id) => self.services.get(&id).cloned().map(Record::Service),
            RecordKey::Task(id) => self.tasks.get(&id).cloned().map(Record::Task),
            RecordKey::Node(id) => self.nodes.get(&id).cloned().map(Record::Node),
        }
    }

    /// The keys of all records.
    pub(crate) fn keys(&self) -> impl Iterator<Item = RecordKey> {
        let cluster = self.cluster.iter().map(|_| RecordKey::Cluster);
        let secrets = self.secrets.keys().map(|id| RecordKey::Secret(*id));
        let services = self.services.keys().map(|id| RecordKey::Service(*id));
        let tasks = self.tasks.keys().map(|id| RecordKey::Task(*id));
        cluster.chain(secrets).chain(services).chain(tasks).chain(self.nodes.keys().map(|id| RecordKey::Node(*id)))
    }

    /// Every payload that is kept.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = PayloadRef> {
        self.secrets.values().flat_map(|record| record.payloads.places())
    }

    /// Adds or replaces a record.
    pub(crate) fn put(&mut self, record: Record) {
        match record {
            Record::Cluster(record) => self.cluster = Some(record),
            Record::Secret(record) => {
                self.remove(RecordKey::Secret(record.secret.id)); // an id that is used again may have another name
                self.secret_names.insert_mut(record.secret.spec.name.clone(), record.secret.id);
                self.secrets.insert_mut(record.secret.id, record);
            }
            Record::Service(service) => self.put_service(service),
            Record::Task(task) => self.put_task(task),
            Record::Node(node) => self.nodes.insert_mut(node.id, node),
        }
    }

    /// Takes a record out, if it is there.
    pub(crate) fn remove(&mut self, key: RecordKey) {
        match key {
            RecordKey::Cluster => self.cluster = None,
            RecordKey::Secret(id) => {
                if let Some(record) = self.secrets.get(&id).cloned() {
                    // One proposal may have given the name to another already.
                    if self.secret_names.get(&record.secret.spec.name) == Some(&id) {
                        self.secret_names.remove_mut(&record.secret.spec.name);
                    }
                    self.secrets.remove_mut(&id);
                }
            }
            RecordKey::Service(id) => self.remove_service(id),
            RecordKey::Task(id) => self.remove_task(id),
            RecordKey::Node(id) => {
                self.nodes.remove_mut(&id);
            }
        }
    }

    fn put_service(&mut self, service: Arc<Service>) {
        self.remove_service(service.id);
        for grant in &service.spec.task.container.secrets {
            link(&mut self.services_using, grant.secret, service.id);
        }
        self.service_names.insert_mut(service.spec.name.clone(), service.id);
        self.services.insert_mut(service.id, service);
    }

    fn remove_service(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id).cloned() else { return };
        for grant in &service.spec.task.container.secrets {
            unlink(&mut self.services_using, grant.secret, id);
        }
        if self.service_names.get(&service.spec.name) == Some(&id) {
            self.service_names.remove_mut(&service.spec.name);
        }
        self.services.remove_mut(&id);
    }

    fn put_task(&mut self, task: Arc<Task>) {
        self.remove_task(task.id);
        link(&mut self.tasks_of_service, task.service_id, task.id);
        if let Some(node) = task.node_id {
            link(&mut self.tasks_of_node, node, task.id);
        }
        for grant in &task.spec.container.secrets {
            link(&mut self.tasks_using, grant.secret, task.id);
        }
        self.tasks.insert_mut(task.id, task);
    }

    fn remove_task(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).cloned() else { return };
        unlink(&mut self.tasks_of_service, task.service_id, id);
        if let Some(node) = task.node_id {
            unlink(&mut self.tasks_of_node, node, id);
        }
        for grant in &task.spec.container.secrets {
            unlink(&mut self.tasks_using, grant.secret, id);
        }
        self.tasks.remove_mut(&id);
    }
}

fn link<K: Ord + Copy, T: Ord + Copy>(map: &mut Map<K, Set<T>>, key: K, member: T) {
    let members = map.get(&key).cloned().unwrap_or_else(Set::new_sync);
    map.insert_mut(key, members.insert(member));
}

fn unlink<K: Ord + Copy, T: Ord + Copy>(map: &mut Map<K, Set<T>>, key: K, member: T) {
    let Some(members) = map.get(&key).map(|members| members.remove(&member)) else { return };
    if members.is_empty() {
        map.remove_mut(&key);
    } else {
        map.insert_mut(key, members);
    }
}

impl Record {
    /// Its place in the state.
    pub(crate) fn key(&self) -> RecordKey {
        match self {
            Self::Cluster(_) => RecordKey::Cluster,
            Self::Secret(record) => RecordKey::Secret(record.secret.id),
            Self::Service(service) => RecordKey::Service(service.id),
            Self::Task(task) => RecordKey::Task(task.id),
            Self::Node(node) => RecordKey::Node(node.id),
        }
    }
}
