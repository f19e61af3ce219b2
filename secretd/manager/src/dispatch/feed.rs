//! What one node is told, as messages: the shell around [`AssignmentSet`].
//!
//! Payloads are read and data keys wrapped when a message is made, one message at a time, however much there is to tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use prost::Message;
use secretd_core::secret::{SealedPayload, Secret};
use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_core::time::Version;
use secretd_proto::code::Code;
use secretd_proto::id::{NodeId, SecretId, TaskId};
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1;
use secretd_proto::v1::assignment_change::{Action, Item};
use secretd_proto::v1::assignments_message::Kind;
use secretd_sealing::key::PublicKey;
use secretd_store::{Change, Event, Op, Store, View, Watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::assignment_set::{AssignmentSet, Delta, Grant, Payload, Source, Touched};
use super::grant::Granter;
use crate::refusal::Refusal;

/// Room for a message's frame and for one more small change.
const MESSAGE_BUDGET: usize = MAX_MESSAGE_LENGTH / 2;

/// The assignments of one session.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    node: NodeId,
    ended: CancellationToken,
    watch: Watch,
    view: View,
    set: AssignmentSet,
    queue: VecDeque<Delta>,
    /// A change that found no room in the last message.
    carried: Option<v1::AssignmentChange>,
    kind: Kind,
    sequence: u64,
    payloads: BTreeMap<Payload, Option<Arc<SealedPayload>>>,
    /// Tasks that cannot have all their secrets, and why.
    broken: BTreeMap<TaskId, String>,
    /// Targets whose version was replaced before it could be granted: the next version is in the watch already.
    late: BTreeMap<TaskId, BTreeSet<String>>,
    /// Tasks that are told of once none of their targets is late.
    held: BTreeMap<TaskId, Arc<Task>>,
}

/// Why a grant was not made.
enum NoGrant {
    /// Its version is not kept any more: there is a newer one, or the secret was removed.
    Replaced,
    /// It cannot be made.
    Failed(String),
}

/// The state as the set wants to see it.
struct AtNode<'a> {
    view: &'a View,
    node: NodeId,
    key: &'a [u8],
}

impl Source for AtNode<'_> {
    fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.view.task(&id).filter(|task| task.node_id == Some(self.node))
    }
    fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.view.secret(&id)
    }
    fn node_key(&self) -> &[u8] {
        self.key
    }
    fn version(&self) -> Version {
        self.view.version()
    }
}

impl Feed {
    pub(crate) fn new(store: &Store, node: NodeId, ended: CancellationToken) -> Self {
        let (view, watch) = store.view_and_watch();
        let tasks: BTreeSet<TaskId> = view.tasks_of_node(&node).map(|task| task.id).collect();
        let mut feed = Self {
            store: store.clone(),
            node,
            ended,
            watch,
            view,
            set: AssignmentSet::default(),
            queue: VecDeque::new(),
            carried: None,
            kind: Kind::Complete,
            sequence: 0,
            payloads: BTreeMap::new(),
            broken: BTreeMap::new(),
            late: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        feed.advance(Touched { tasks, secrets: BTreeSet::new() });
        feed
    }

    /// The next message; an error ends the stream.
    pub(crate) async fn next(&mut self) -> Result<v1::AssignmentsMessage, Status> {
        loop {
            if self.has_more() || self.sequence == 0 {
                // Apart, so that a feed that waits, of which there is one for each node, has no room for it.
                let changes = Box::pin(self.changes()).await?;
                if !changes.is_empty() || self.sequence == 0 || self.kind == Kind::Complete {
                    return Ok(self.message(changes));
                }
                continue;
            }
            self.payloads.clear();
            let ended = self.ended.clone();
            tokio::select! {
                biased;
                () = ended.cancelled() => {
                    return Err(Refusal::new(Code::NotFound, "the session has ended: begin a new one").into());
                }
                change = self.watch.next() => { // cancel-safe, says Watch
                    let closed = || Refusal::new(Code::Storage, "the store is closed: secretd is stopping");
                    let change = change.ok_or_else(closed)?;
                    let mut touched = Touched::default();
                    self.take(&change, &mut touched);
                    while let Some(change) = self.watch.try_next() {
                        self.take(&change, &mut touched);
                    }
                    self.advance(touched);
                }
            }
        }
    }

    fn has_more(&self) -> bool {
        self.carried.is_some() || !self.queue.is_empty()
    }

    fn message(&mut self, changes: Vec<v1::AssignmentChange>) -> v1::AssignmentsMessage {
        let applies_to = if self.sequence == 0 { String::new() } else { self.sequence.to_string() };
        self.sequence += 1;
        let (kind, more) = (self.kind, self.has_more());
        if !more {
            self.kind = Kind::Incremental;
        }
        v1::AssignmentsMessage { kind: kind.into(), applies_to, results_in: self.sequence.to_string(), changes, more }
    }

    fn take(&mut self, change: &Change, touched: &mut Touched) {
        for event in &change.events {
            match event {
                Event::TaskCreated(task) | Event::TaskRemoved(task) | Event::TaskUpdated { new: task, .. } => {
                    if task.node_id == Some(self.node) {
                        touched.tasks.insert(task.id);
                    }
                }
                Event::SecretUpdated { new: secret, .. } | Event::SecretRemoved(secret) => {
                    touched.secrets.insert(secret.id);
                }
                Event::NodeRemoved(node) if node.id == self.node => self.ended.cancel(),
                Event::ClusterCreated(_)
                | Event::ClusterUpdated { .. }
                | Event::NodeRemoved(_)
                | Event::SecretCreated(_)
                | Event::ServiceCreated(_)
                | Event::ServiceUpdated { .. }
                | Event::ServiceRemoved(_)
                | Event::NodeCreated(_)
                | Event::NodeUpdated { .. } => {} // a node's new key is seen by the set itself
            }
        }
        self.view = change.view.clone();
    }

    fn advance(&mut self, touched: Touched) {
        let node = self.view.node(&self.node);
        let key = node.map(|node| node.description.secrets.public_key.as_slice()).unwrap_or_default();
        let source = AtNode { view: &self.view, node: self.node, key };
        let waiting = self.view.tasks_of_node(&self.node).map(|task| task.id);
        self.queue.extend(self.set.advance(&source, touched, waiting));
    }

    /// As many of the queued changes as fit one message.
    async fn changes(&mut self) -> Result<Vec<v1::AssignmentChange>, Status> {
        let mut changes = Vec::new();
        let mut size = 0;
        loop {
            let change = match self.carried.take() {
                Some(change) => Some(change),
                None => match self.queue.pop_front() {
                    Some(delta) => self.render(delta).await?,
                    None => return Ok(changes),
                },
            };
            let Some(change) = change else { continue };
            let length = change.encoded_len();
            if !changes.is_empty() && size + length > MESSAGE_BUDGET {
                self.carried = Some(change);
                return Ok(changes);
            }
            size += length;
            changes.push(change);
        }
    }

    /// A change for the wire; `None` when there is nothing to say after all.
    async fn render(&mut self, delta: Delta) -> Result<Option<v1::AssignmentChange>, Status> {
        let (action, item) = match delta {
            Delta::GiveSecret(payload) => match self.secret(payload).await {
                Some(item) => (Action::Update, item),
                None => return Ok(None),
            },
            Delta::GiveGrant(grant) => match self.grant_and_yield(&grant).await {
                Ok(item) => {
                    self.is_on_time(&grant);
                    (Action::Update, item)
                }
                Err(NoGrant::Replaced) => {
                    self.late.entry(grant.task).or_default().insert(grant.target);
                    return Ok(None);
                }
                Err(NoGrant::Failed(why)) => {
                    // `why` may name the secret: it goes to the task's status, not to the journal.
                    tracing::error!(secret = %grant.payload.secret, task = %grant.task, "a grant cannot be made");
                    self.is_on_time(&grant);
                    self.broken.insert(grant.task, why);
                    return Ok(None);
                }
            },
            Delta::GiveTask(task) => match self.tell(task).await? {
                Some(item) => (Action::Update, item),
                None => return Ok(None),
            },
            Delta::TakeTask(id) => {
                self.late.remove(&id);
                if self.held.remove(&id).is_some() {
                    return Ok(None); // it was never told of
                }
                let task = v1::Task { id: id.to_string(), ..v1::Task::default() };
                (Action::Remove, Item::Task(v1::TaskAssignment { task: Some(task) }))
            }
            Delta::TakeGrant(grant) => (Action::Remove, Item::Grant(self.describe(&grant))),
            Delta::TakeSecret(Payload { secret, version }) => {
                let (secret_id, secret_version) = (secret.to_string(), version.0);
                (Action::Remove, Item::Secret(v1::SecretAssignment { secret_id, secret_version, ..Default::default() }))
            }
        };
        Ok(Some(v1::AssignmentChange { action: action.into(), item: Some(item) }))
    }

    /// A task, unless it is one that must not start: because it cannot have its secrets, or not yet.
    async fn tell(&mut self, task: Arc<Task>) -> Result<Option<Item>, Status> {
        let starts = task.status.state == TaskState::Assigned && task.desired_state <= TaskState::Running;
        if starts && self.late.contains_key(&task.id) {
            self.held.insert(task.id, task);
            return Ok(None);
        }
        self.held.remove(&task.id);
        match self.broken.remove(&task.id) {
            Some(why) if starts => {
                self.reject(&task, why).await?;
                Ok(None)
            }
            Some(_) | None => Ok(Some(Item::Task(v1::TaskAssignment { task: Some(Task::clone(&task).into()) }))),
        }
    }

    /// Takes note that a target is late no more; the task that waited for it is next.
    fn is_on_time(&mut self, grant: &Grant) {
        let Some(targets) = self.late.get_mut(&grant.task) else { return };
        targets.remove(&grant.target);
        if targets.is_empty() {
            self.late.remove(&grant.task);
            if let Some(task) = self.held.remove(&grant.task) {
                self.queue.push_back(Delta::GiveTask(task));
            }
        }
    }

    async fn secret(&mut self, payload: Payload) -> Option<Item> {
        let sealed = self.payload(payload).await.ok()?;
        let secret = self.view.secret(&payload.secret)?;
        Some(Item::Secret(v1::SecretAssignment {
            secret_id: payload.secret.to_string(),
            secret_version: payload.version.0,
            name: secret.spec.name.to_string(),
            length: self.view.payload_length(&payload.secret, payload.version)?,
            ciphertext: sealed.ciphertext.clone(),
        }))
    }

    /// Wrapping a key takes a tenth of a millisecond of arithmetic: among hundreds, others get their turn.
    async fn grant_and_yield(&mut self, grant: &Grant) -> Result<Item, NoGrant> {
        let item = self.grant(grant).await;
        tokio::task::yield_now().await;
        item
    }

    async fn grant(&mut self, grant: &Grant) -> Result<Item, NoGrant> {
        let sealed = self.payload(grant.payload).await?;
        let Payload { secret: id, version } = grant.payload;
        let secret = self.view.secret(&id).ok_or(NoGrant::Replaced)?;
        let length = self.view.payload_length(&id, version).ok_or(NoGrant::Replaced)?;
        let key = self.view.node(&self.node).map(|node| node.description.secrets.public_key.clone());
        let unusable = |error| NoGrant::Failed(format!("the node's secret-fs key is not usable: {error}"));
        let node_key = PublicKey::from_bytes(&key.unwrap_or_default()).map_err(unusable)?;
        let (cluster, key) = self.view.cluster().zip(self.view.sealing_key()).ok_or(NoGrant::Replaced)?;
        let granter = Granter { cluster: cluster.id, cluster_key: &key, node: self.node, node_key: &node_key };
        let wrapped = granter.wrap(grant, secret, length, &sealed);
        let wrapped_dek = wrapped.map_err(|error| {
            let (version, name) = (version.0, &secret.spec.name);
            NoGrant::Failed(format!("version {version} of secret {name} cannot be granted: {error}; update the secret"))
        })?;
        Ok(Item::Grant(v1::GrantAssignment { wrapped_dek, ..self.describe(grant) }))
    }

    fn describe(&self, grant: &Grant) -> v1::GrantAssignment {
        v1::GrantAssignment {
            task_id: grant.task.to_string(),
            secret_id: grant.payload.secret.to_string(),
            secret_version: grant.payload.version.0,
            target: grant.target.clone(),
            uid: grant.uid,
            gid: grant.gid,
            mode: grant.mode,
            epoch: grant.epoch,
            wrapped_dek: Vec::new(),
            cluster_id: self.view.cluster().map(|cluster| cluster.id.to_string()).unwrap_or_default(),
        }
    }

    /// A payload, read once for all the grants that are made in a row.
    async fn payload(&mut self, payload: Payload) -> Result<Arc<SealedPayload>, NoGrant> {
        if let Some(known) = self.payloads.get(&payload) {
            return known.clone().ok_or(NoGrant::Replaced);
        }
        let Payload { secret, version } = payload;
        let read = self.store.payload(secret, version.0).await.map_err(|error| {
            NoGrant::Failed(format!("version {} of secret {secret} cannot be read: {error}", version.0))
        })?;
        self.payloads.insert(payload, read.clone());
        read.ok_or(NoGrant::Replaced)
    }

    /// A task that cannot have its secrets does not start: it ends here, and says why.
    async fn reject(&self, task: &Task, why: String) -> Result<(), Status> {
        let status = TaskStatus { state: TaskState::Rejected, error: why, ..task.status.clone() };
        let op = Op::UpdateTaskStatus { id: task.id, node: task.node_id, status };
        match self.store.propose(vec![op]).await {
            Ok(_) | Err(secretd_store::ProposeError::Conflict(_)) => Ok(()), // somebody else has ended it
            Err(error) => Err(Refusal::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests;
