//! A manager that a test plays, and an agent that talks to it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use secretd_agent::{Agent, Deps, Managers};
use secretd_core::fake::clock::FakeClock;
use secretd_core::fake::runtime::FakeRuntime;
use secretd_core::fake::secret_mount::FakeSecretMount;
use secretd_core::node::NodeDescription;
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_proto::v1;
use secretd_proto::v1::assignment_change::{Action, Item};
use secretd_proto::v1::assignments_message::Kind;
use secretd_proto::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status, Streaming};

/// The secret-fs key of the first run.
pub(crate) const KEY: &[u8] = b"first";

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the manager has said and heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) sessions: usize,
    /// Every status, in the order in which it was told.
    pub(crate) statuses: Vec<(TaskId, v1::TaskStatus)>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) outputs: Vec<v1::WorkOutput>,
}

#[derive(Default)]
struct Lines {
    complete: Vec<v1::AssignmentChange>,
    sequence: u64,
    session: Option<mpsc::UnboundedSender<Result<v1::SessionMessage, Status>>>,
    assignments: Option<mpsc::UnboundedSender<Result<v1::AssignmentsMessage, Status>>>,
    work_input: Option<mpsc::Sender<Result<v1::WorkInput, Status>>>,
    refuses_reports: bool,
    /// So many sessions are refused, as by a manager that does not lead.
    refuses_sessions: usize,
}

/// The manager.
#[derive(Clone, Default)]
pub(crate) struct Manager {
    heard: Arc<watch::Sender<Heard>>,
    lines: Arc<Mutex<Lines>>,
}

#[tonic::async_trait]
impl Dispatcher for Manager {
    type SessionStream = Messages<v1::SessionMessage>;
    type AssignmentsStream = Messages<v1::AssignmentsMessage>;
    type HeartbeatStream = Messages<v1::HeartbeatResponse>;
    type WorkStream = Messages<v1::WorkInput>;

    async fn session(&self, request: Request<v1::SessionRequest>) -> Result<Response<Self::SessionStream>, Status> {
        let refused = self.lines.lock().refuses_sessions.checked_sub(1);
        if let Some(left) = refused {
            self.lines.lock().refuses_sessions = left;
            return Err(Status::unavailable("another manager leads"));
        }
        self.hear_key(request.into_inner().description);
        self.heard.send_modify(|heard| heard.sessions += 1);
        let (sender, receiver) = mpsc::unbounded_channel();
        let heartbeat = Some(prost_types::Duration { seconds: 5, nanos: 0 });
        let first = v1::SessionMessage { session_id: "session".to_owned(), heartbeat, ..Default::default() };
        sender.send(Ok(first)).unwrap();
        self.lines.lock().session = Some(sender);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<v1::HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let answers = request.into_inner().map(|beat| beat.map(|_| v1::HeartbeatResponse::default()));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn assignments(
        &self,
        _: Request<v1::AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut lines = self.lines.lock();
        lines.sequence = 1;
        let (changes, kind) = (lines.complete.clone(), Kind::Complete.into());
        let message = v1::AssignmentsMessage {
            kind,
            applies_to: String::new(),
            results_in: "1".to_owned(),
            changes,
            more: false,
        };
        sender.send(Ok(message)).unwrap();
        lines.assignments = Some(sender);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn update_task_status(
        &self,
        request: Request<v1::UpdateTaskStatusRequest>,
    ) -> Result<Response<v1::UpdateTaskStatusResponse>, Status> {
        if self.lines.lock().refuses_reports {
            return Err(Status::unavailable("no quorum"));
        }
        let updates = request.into_inner().updates.into_iter();
        let statuses = updates.map(|update| (update.task_id.parse().unwrap(), update.status.unwrap()));
        self.heard.send_modify(|heard| heard.statuses.extend(statuses));
        Ok(Response::new(v1::UpdateTaskStatusResponse {}))
    }

    async fn update_node(
        &self,
        request: Request<v1::UpdateNodeRequest>,
    ) -> Result<Response<v1::UpdateNodeResponse>, Status> {
        self.hear_key(request.into_inner().description);
        Ok(Response::new(v1::UpdateNodeResponse {}))
    }

    async fn work(&self, request: Request<Streaming<v1::WorkOutput>>) -> Result<Response<Self::WorkStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        self.lines.lock().work_input = Some(sender);
        let mut outputs = request.into_inner();
        let manager = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(output)) = outputs.message().await {
                manager.heard.send_modify(|heard| heard.outputs.push(output));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Manager {
    fn hear_key(&self, description: Option<v1::NodeDescription>) {
        let key = description.unwrap().secrets.unwrap().public_key;
        self.heard.send_modify(|heard| heard.keys.push(key));
    }

    /// What every new session is told first.
    pub(crate) fn set_complete(&self, changes: Vec<v1::AssignmentChange>) {
        self.lines.lock().complete = changes;
    }

    /// Tells changes.
    pub(crate) fn tell(&self, changes: Vec<v1::AssignmentChange>) {
        let mut lines = self.lines.lock();
        let applies_to = lines.sequence.to_string();
        lines.sequence += 1;
        let (results_in, kind) = (lines.sequence.to_string(), Kind::Incremental.into());
        let message = v1::AssignmentsMessage { kind, applies_to, results_in, changes, more: false };
        lines.assignments.as_ref().unwrap().send(Ok(message)).unwrap();
    }

    /// Asks for work.
    pub(crate) fn ask(&self, work: v1::work_request::Work) {
        let request = v1::WorkRequest { work_id: "work".to_owned(), work: Some(work) };
        let message = v1::SessionMessage { work: Some(request), ..Default::default() };
        self.lines.lock().session.as_ref().unwrap().send(Ok(message)).unwrap();
    }

    /// Where the input of the last work goes.
    pub(crate) fn work_input(&self) -> mpsc::Sender<Result<v1::WorkInput, Status>> {
        self.lines.lock().work_input.clone().unwrap()
    }

    /// Ends the session.
    pub(crate) fn hang_up(&self) {
        let mut lines = self.lines.lock();
        (lines.session, lines.assignments) = (None, None);
    }

    pub(crate) fn refuse_sessions(&self, count: usize) {
        self.lines.lock().refuses_sessions = count;
    }

    pub(crate) fn refuse_reports(&self, refuses: bool) {
        self.lines.lock().refuses_reports = refuses;
    }

    /// What was heard once `enough` is.
    pub(crate) async fn until(&self, enough: impl FnMut(&Heard) -> bool) -> watch::Ref<'_, Heard> {
        let mut heard = self.heard.subscribe();
        tokio::time::timeout(Duration::from_secs(600), heard.wait_for(enough)).await.unwrap().unwrap();
        self.heard.borrow()
    }

    /// The task's status once it is in this state.
    pub(crate) async fn status(&self, task: TaskId, state: v1::TaskState) -> v1::TaskStatus {
        let told = |heard: &Heard| {
            heard
                .statuses
                .iter()
                .find(|(of, status)| *of == task && status.state() == state)
                .map(|(_, status)| status.clone())
        };
        told(&*self.until(|heard| told(heard).is_some()).await).unwrap()
    }

    /// The states of a task that were told, in order.
    pub(crate) fn states(&self, task: TaskId) -> Vec<v1::TaskState> {
        let heard = self.heard.borrow();
        heard.statuses.iter().filter(|(of, _)| *of == task).map(|(_, status)| status.state()).collect()
    }

    pub(crate) fn heard(&self) -> watch::Ref<'_, Heard> {
        self.heard.borrow()
    }
}

/// A node with its agent, and its manager.
pub(crate) struct World {
    pub(crate) manager: Manager,
    pub(crate) runtime: FakeRuntime,
    pub(crate) mount: FakeSecretMount,
    pub(crate) description: watch::Sender<NodeDescription>,
    /// Counts the node's certificates.
    pub(crate) certificates: Arc<watch::Sender<u64>>,
    node: NodeId,
    /// Cancelled when the node leaves the cluster.
    pub(crate) leave: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        let mount = FakeSecretMount::new(KEY);
        Self {
            manager: Manager::default(),
            runtime: FakeRuntime::default(),
            mount,
            description: watch::Sender::new(description(KEY)),
            certificates: Arc::new(watch::Sender::new(1)),
            node: NodeId::from_random([9; 16]),
            leave: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// The agent begins, with a new connection to the manager. An agent that ran before is gone.
    pub(crate) async fn start(&mut self) {
        self.tasks = JoinSet::new();
        let (connections, incoming) = mpsc::channel::<std::io::Result<DuplexStream>>(4);
        let connector = tower::service_fn(move |_: Uri| {
            let connections = connections.clone();
            async move {
                let (client, server) = tokio::io::duplex(1 << 16);
                connections.send(Ok(server)).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(client))
            }
        });
        let server = Server::builder().add_service(DispatcherServer::new(self.manager.clone()));
        self.tasks.spawn(async move { server.serve_with_incoming(ReceiverStream::new(incoming)).await.unwrap() });
        let agent = Agent::new(Deps {
            node: self.node,
            managers: Arc::new(OneManager(
                Endpoint::from_static("http://manager").connect_with_connector_lazy(connector),
                Arc::clone(&self.certificates),
            )),
            description: self.description.subscribe(),
            runtime: Arc::new(self.runtime.clone()),
            secret_mount: Arc::new(self.mount.clone()),
            clock: Arc::new(FakeClock::default()),
            connected: watch::Sender::new(false),
        });
        let agent = agent.await.unwrap();
        self.tasks.spawn(agent.run(self.leave.clone()));
    }

    /// A started world.
    pub(crate) async fn started() -> Self {
        let mut world = Self::new();
        world.start().await;
        world.until_followed(1).await;
        world
    }

    /// The agent has its so manieth session, and has been told everything.
    pub(crate) async fn until_followed(&self, sessions: usize) {
        self.manager.until(|heard| heard.sessions == sessions).await;
        self.until(|world| world.manager.lines.lock().assignments.is_some()).await;
    }

    /// Secret-fs is started again, and the node tells of its key.
    pub(crate) fn restart_secret_fs(&self, key: &[u8]) {
        self.mount.restart(key);
        self.description.send_replace(description(key));
    }

    /// Waits for what nobody tells of.
    pub(crate) async fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..10_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // paused: as soon as all else waits
        }
        panic!("it does not come about");
    }
}

/// The one manager there is.
#[derive(Debug)]
struct OneManager(Channel, Arc<watch::Sender<u64>>);

impl Managers for OneManager {
    fn channel(&self, _: Option<&str>) -> Channel {
        self.0.clone()
    }

    fn led_anew(&self) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn told(&self, _: v1::Membership) {}

    fn certificates(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn outdated(&self) {}

    fn recall(&self) -> v1::StoredSeen {
        v1::StoredSeen::default()
    }

    fn keep(&self, _: &v1::StoredSeen) {}

    fn doubt(&self, why: &str) {
        panic!("this manager never goes back: {why}");
    }
}

fn description(key: &[u8]) -> NodeDescription {
    let mut description = NodeDescription::default();
    description.secrets.public_key = key.to_vec();
    description
}

pub(crate) fn task_id(n: u8) -> TaskId {
    TaskId::from_random([n; 16])
}

fn secret_id() -> SecretId {
    SecretId::from_random([7; 16])
}

/// A task without secrets.
pub(crate) fn task(id: TaskId, desired: v1::TaskState) -> v1::Task {
    let spec = v1::TaskSpec {
        container: Some(v1::ContainerSpec { image: "app:1".to_owned(), ..v1::ContainerSpec::default() }),
        ..v1::TaskSpec::default()
    };
    v1::Task {
        id: id.to_string(),
        meta: Some(v1::Meta::default()),
        service_id: secretd_proto::id::ServiceId::from_random([3; 16]).to_string(),
        service_name: "app".to_owned(),
        slot: 1,
        spec: Some(spec),
        desired_state: desired.into(),
        status: Some(v1::TaskStatus { state: v1::TaskState::Assigned.into(), ..v1::TaskStatus::default() }),
        ..v1::Task::default()
    }
}

/// The task in this state, as the managers know it.
pub(crate) fn known_as(mut task: v1::Task, state: v1::TaskState) -> v1::Task {
    task.status = Some(v1::TaskStatus { state: state.into(), ..v1::TaskStatus::default() });
    task
}

/// The task, granted the one secret.
pub(crate) fn with_secret(mut task: v1::Task) -> v1::Task {
    let grant = v1::SecretGrant {
        secret_id: secret_id().to_string(),
        secret_name: "pw".to_owned(),
        target: "pw".to_owned(),
        mode: 0o444,
        ..v1::SecretGrant::default()
    };
    task.spec.as_mut().unwrap().container.as_mut().unwrap().secrets = vec![grant];
    task
}

pub(crate) fn give_task(task: v1::Task) -> v1::AssignmentChange {
    change(Action::Update, Item::Task(v1::TaskAssignment { task: Some(task) }))
}

pub(crate) fn take_task(id: TaskId) -> v1::AssignmentChange {
    let task = v1::Task { id: id.to_string(), ..v1::Task::default() };
    change(Action::Remove, Item::Task(v1::TaskAssignment { task: Some(task) }))
}

/// The one secret's payload.
pub(crate) fn give_secret(version: u64) -> v1::AssignmentChange {
    change(
        Action::Update,
        Item::Secret(v1::SecretAssignment {
            secret_id: secret_id().to_string(),
            secret_version: version,
            name: "pw".to_owned(),
            length: 4,
            ciphertext: vec![0; 20],
        }),
    )
}

/// A grant of the one secret, for the run of secret-fs with this key.
pub(crate) fn give_grant(task: TaskId, version: u64, key: &[u8]) -> v1::AssignmentChange {
    change(
        Action::Update,
        Item::Grant(v1::GrantAssignment {
            task_id: task.to_string(),
            secret_id: secret_id().to_string(),
            secret_version: version,
            target: "pw".to_owned(),
            mode: 0o444,
            epoch: version,
            wrapped_dek: key.to_vec(),
            cluster_id: ClusterId::from_random([5; 16]).to_string(),
            ..v1::GrantAssignment::default()
        }),
    )
}

fn change(action: Action, item: Item) -> v1::AssignmentChange {
    v1::AssignmentChange { action: action.into(), item: Some(item) }
}

/// How often each thing is in a list.
pub(crate) fn count<T: Ord>(things: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    counts
}
