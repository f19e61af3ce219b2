//! An agent that does what it is told at once, and keeps what it is given: what secret-fs and the runtime would.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::fs::Target;
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_proto::v1;
use secretd_proto::v1::assignment_change::{Action, Item};
use secretd_proto::v1::assignments_message::Kind;
use secretd_proto::v1::dispatcher_client::DispatcherClient;
use secretd_proto::v1::work_output::Output;
use secretd_sealing::binding::{GrantBinding, PayloadBinding};
use secretd_sealing::envelope::open_grant;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::payload::open_into;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::harness::{World, within};

/// What an agent has and has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) secrets: BTreeMap<(SecretId, u64), v1::SecretAssignment>,
    /// By task and path in the container.
    pub(crate) grants: BTreeMap<(TaskId, String), v1::GrantAssignment>,
    pub(crate) tasks: BTreeMap<TaskId, v1::Task>,
    pub(crate) messages: Vec<(Kind, usize)>,
    pub(crate) max_message: usize,
    sequence: String,
}

/// One node's agent.
pub(crate) struct Agent {
    pub(crate) node: NodeId,
    pub(crate) session: String,
    key: Arc<Mutex<PrivateKey>>,
    seen: Arc<watch::Sender<Seen>>,
    client: DispatcherClient<Channel>,
    tasks: JoinSet<()>,
}

/// A description with this key of secret-fs.
pub(crate) fn description(key: &[u8]) -> v1::NodeDescription {
    v1::NodeDescription {
        hostname: "here".to_owned(),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        nano_cpus: 2_000_000_000,
        memory_bytes: 1 << 30,
        secrets: Some(v1::SecretsStatus { public_key: key.to_vec(), ..v1::SecretsStatus::default() }),
        ..v1::NodeDescription::default()
    }
}

impl Agent {
    /// Connects as the manager's own node, with a key of secret-fs.
    pub(crate) async fn connect(world: &World) -> Self {
        let key = PrivateKey::generate().unwrap();
        let public = key.public().to_bytes();
        Self::connect_with(world, key, &public).await
    }

    /// Connects while secret-fs is not there yet.
    pub(crate) async fn connect_without_key(world: &World) -> Self {
        Self::connect_with(world, PrivateKey::generate().unwrap(), &[]).await
    }

    async fn connect_with(world: &World, key: PrivateKey, public: &[u8]) -> Self {
        let node = world.node;
        let mut client = world.dispatcher();
        let request = v1::SessionRequest {
            node_id: node.to_string(),
            description: Some(description(public)),
            ..Default::default()
        };
        let mut messages = client.session(request).await.unwrap().into_inner();
        let session = messages.message().await.unwrap().unwrap().session_id;
        let request = v1::AssignmentsRequest { session_id: session.clone() };
        let assignments = client.assignments(request).await.unwrap().into_inner();

        let (seen, key) = (Arc::new(watch::Sender::new(Seen::default())), Arc::new(Mutex::new(key)));
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(assignments, client.clone(), session.clone(), Arc::clone(&seen)));
        tasks.spawn(beat(client.clone(), session.clone()));
        tasks.spawn(work(messages, client.clone()));
        Self { node, session, key, seen, client, tasks }
    }

    /// Says what a task does, out of order.
    pub(crate) async fn report(&self, task: &str, state: v1::TaskState, change: impl FnOnce(&mut v1::TaskStatus)) {
        report(self.client.clone(), &self.session, task, state, change).await.unwrap();
    }

    /// secret-fs was started again: everything it had is gone, and it has another key.
    pub(crate) async fn restart_secret_fs(&self) {
        let key = PrivateKey::generate().unwrap();
        let public = key.public().to_bytes();
        *self.key.lock() = key;
        self.seen.send_modify(|seen| seen.grants.clear());
        self.update_key(&public).await;
    }

    /// Tells of a key of secret-fs.
    pub(crate) async fn update_key(&self, public: &[u8]) {
        let description = Some(description(public));
        let request = v1::UpdateNodeRequest { session_id: self.session.clone(), description };
        self.client.clone().update_node(request).await.unwrap();
    }

    /// The key of secret-fs now.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.key.lock().public().to_bytes()
    }

    /// What the task reads from `path`; `None` when it may not.
    pub(crate) fn read(&self, task: &str, path: &str) -> Option<Vec<u8>> {
        let seen = self.seen.borrow();
        let task: TaskId = task.parse().unwrap();
        let grant = seen.grants.get(&(task, path.to_owned()))?;
        let secret: SecretId = grant.secret_id.parse().unwrap();
        let payload = seen.secrets.get(&(secret, grant.secret_version)).expect("a grant without its payload");
        let cluster: ClusterId = grant.cluster_id.parse().unwrap();
        let binding = PayloadBinding {
            cluster,
            secret,
            version: grant.secret_version,
            name: payload.name.parse().unwrap(),
            length: payload.length,
        };
        let of_grant = GrantBinding { payload: binding.clone(), node: self.node, task, epoch: grant.epoch };
        let dek = open_grant(&grant.wrapped_dek, &self.key.lock(), &of_grant).expect("the grant opens");
        let mut bytes = vec![0; payload.length as usize];
        open_into(&dek, &binding, &payload.ciphertext, &mut bytes).expect("the payload opens");
        Some(bytes)
    }

    /// Waits until what the agent has is as `wanted` says.
    pub(crate) async fn until(&self, mut wanted: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        within(async { drop(seen.wait_for(|seen| wanted(seen)).await.unwrap()) }).await;
    }

    /// What the agent has.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.borrow())
    }

    /// Goes away without a word.
    pub(crate) async fn vanish(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until the manager has ended one of the session's streams.
    pub(crate) async fn ended(&mut self) {
        within(self.tasks.join_next()).await;
    }
}

async fn beat(mut client: DispatcherClient<Channel>, session_id: String) {
    let (sender, beats) = mpsc::channel(1);
    let Ok(answers) = client.heartbeat(ReceiverStream::new(beats)).await else { return };
    let mut answers = answers.into_inner();
    let mut interval = tokio::time::interval(std::time::Duration::from_secs(5));
    loop {
        interval.tick().await;
        let beat = v1::HeartbeatRequest { session_id: session_id.clone() };
        if sender.send(beat).await.is_err() || !matches!(answers.message().await, Ok(Some(_))) {
            return;
        }
    }
}

async fn report(
    mut client: DispatcherClient<Channel>,
    session: &str,
    task: &str,
    state: v1::TaskState,
    change: impl FnOnce(&mut v1::TaskStatus),
) -> Result<(), Status> {
    let mut status = v1::TaskStatus {
        state: state.into(),
        container: Some(v1::ContainerStatus::default()),
        ..v1::TaskStatus::default()
    };
    change(&mut status);
    let update = v1::TaskStatusUpdate { task_id: task.to_owned(), status: Some(status) };
    let request = v1::UpdateTaskStatusRequest { session_id: session.to_owned(), updates: vec![update] };
    client.update_task_status(request).await.map(drop)
}

/// Takes assignments, and answers each task with the state that it is wanted in. The image `bad` fails at once.
async fn follow(
    mut assignments: Streaming<v1::AssignmentsMessage>,
    client: DispatcherClient<Channel>,
    session: String,
    seen: Arc<watch::Sender<Seen>>,
) {
    while let Ok(Some(message)) = assignments.message().await {
        let mut told = Vec::new();
        seen.send_modify(|seen| told = seen.take(message));
        for task in told {
            let image = task.spec.as_ref().and_then(|spec| spec.container.as_ref()).map(|of| of.image.as_str());
            let state = match task.desired_state() {
                v1::TaskState::Ready => v1::TaskState::Ready,
                v1::TaskState::Running if image == Some("bad") => v1::TaskState::Failed,
                v1::TaskState::Running => v1::TaskState::Running,
                _ => v1::TaskState::Shutdown,
            };
            let at = task.status.as_ref().and_then(|status| status.since);
            if report(client.clone(), &session, &task.id, state, |status| status.since = at).await.is_err() {
                return;
            }
        }
    }
}

impl Seen {
    /// Takes one message, checking the protocol, and returns the tasks it tells of.
    fn take(&mut self, message: v1::AssignmentsMessage) -> Vec<v1::Task> {
        assert_eq!(message.applies_to, self.sequence, "the chain of sequences is broken");
        self.max_message = self.max_message.max(prost_len(&message));
        self.messages.push((message.kind(), message.changes.len()));
        self.sequence = message.results_in;
        message.changes.into_iter().filter_map(|change| self.change(change)).collect()
    }

    fn change(&mut self, change: v1::AssignmentChange) -> Option<v1::Task> {
        let action = change.action();
        match (action, change.item.unwrap()) {
            (Action::Update, Item::Secret(secret)) => {
                self.secrets.insert((secret.secret_id.parse().unwrap(), secret.secret_version), secret);
            }
            (Action::Remove, Item::Secret(secret)) => {
                self.secrets.remove(&(secret.secret_id.parse().unwrap(), secret.secret_version));
            }
            (action, Item::Grant(grant)) => {
                let path = Target::parse(&grant.target).unwrap().path_in_container();
                let place = (grant.task_id.parse().unwrap(), path);
                if action == Action::Remove {
                    self.grants.remove(&place);
                } else if let Some(old) = self.grants.insert(place, grant.clone()) {
                    assert!(old.epoch < grant.epoch, "a new grant has no greater epoch");
                }
            }
            (Action::Update, Item::Task(task)) => {
                let task = task.task.unwrap();
                self.tasks.insert(task.id.parse().unwrap(), task.clone());
                return Some(task);
            }
            (Action::Remove, Item::Task(task)) => {
                self.tasks.remove(&task.task.unwrap().id.parse().unwrap());
            }
        }
        None
    }
}

fn prost_len(message: &v1::AssignmentsMessage) -> usize {
    prost::Message::encoded_len(message)
}

/// Carries out work: logs have two lines, commands echo their input and end with its last byte as exit code.
async fn work(mut messages: Streaming<v1::SessionMessage>, client: DispatcherClient<Channel>) {
    let mut running = JoinSet::new();
    while let Ok(Some(message)) = messages.message().await {
        if let Some(request) = message.work {
            running.spawn(carry_out(request, client.clone()));
        }
    }
}

async fn carry_out(request: v1::WorkRequest, mut client: DispatcherClient<Channel>) {
    let (tx, rx) = mpsc::channel(4);
    let id = request.work_id;
    let say = async |output: Output| tx.send(v1::WorkOutput { work_id: id.clone(), output: Some(output) }).await;
    say(Output::Started(true)).await.unwrap();
    let mut inputs = client.work(ReceiverStream::new(rx)).await.unwrap().into_inner();
    match request.work.unwrap() {
        v1::work_request::Work::Logs(logs) => {
            for task_id in logs.task_ids {
                let line = format!("tail {}\n", logs.tail).into_bytes();
                let record = v1::LogRecord { task_id, line, ..v1::LogRecord::default() };
                drop(say(Output::Log(record)).await);
            }
            if logs.follow {
                while let Ok(Some(_)) = inputs.message().await {}
                return;
            }
        }
        v1::work_request::Work::Exec(exec) if exec.start.as_ref().unwrap().args == ["fail"] => {
            let failed = v1::WorkFailure { code: "not-found".to_owned(), message: "fail: no such file".to_owned() };
            drop(say(Output::Failed(failed)).await);
        }
        v1::work_request::Work::Exec(_) => {
            let mut code = 0;
            while let Ok(Some(v1::WorkInput { input: Some(v1::work_input::Input::Exec(input)) })) =
                inputs.message().await
            {
                match input.input {
                    Some(v1::exec_input::Input::Stdin(bytes)) => {
                        code = i32::from(*bytes.last().unwrap());
                        let output = v1::exec_output::Output::Stdout(bytes);
                        drop(say(Output::Exec(v1::ExecOutput { output: Some(output) })).await);
                    }
                    Some(v1::exec_input::Input::StdinClosed(_)) => break,
                    _ => {}
                }
            }
            let output = v1::exec_output::Output::ExitCode(code);
            drop(say(Output::Exec(v1::ExecOutput { output: Some(output) })).await);
        }
    }
    drop(say(Output::Done(true)).await);
    // Dropping the call now would take what was said back: the manager ends it when it has heard everything.
    while let Ok(Some(_)) = inputs.message().await {}
}
