//! Containers that are entries of a map. Other than real ones they exit only when told to, or when stopped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use secretd_proto::id::TaskId;
use secretd_proto::shim::{Exit, PROTOCOL, Phase, Status};
use tokio::sync::{mpsc, watch};

use crate::seam::runtime::{
    ContainerError, ExecInput, ExecOutput, ExecSession, ExecSpec, LogLine, LogOptions, LogStream, Observed,
    PrepareError, Prepared, Running, Runtime,
};
use crate::task::Task;

/// What a fake runtime was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Runtime::prepare`].
    Prepare,
    /// [`Runtime::start`].
    Start,
    /// [`Runtime::stop`].
    Stop,
    /// [`Runtime::remove`].
    Remove,
    /// [`Runtime::forget`].
    Forget,
}

/// Containers in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct FakeRuntime(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<TaskId, watch::Sender<Option<Phase>>>,
    logs: BTreeMap<TaskId, Vec<LogLine>>,
    calls: Vec<(Call, TaskId)>,
    prepare_failures: VecDeque<PrepareError>,
    failures: HashMap<Call, VecDeque<ContainerError>>,
    delays: HashMap<Call, Duration>,
}

impl FakeRuntime {
    /// The next `prepare` fails.
    pub fn fail_next_prepare(&self, error: PrepareError) {
        self.0.lock().prepare_failures.push_back(error);
    }

    /// The next such call fails; `prepare` has an error of its own.
    pub fn fail_next(&self, call: Call, error: ContainerError) {
        self.0.lock().failures.entry(call).or_default().push_back(error);
    }

    /// Such calls take so long from now on.
    pub fn delay(&self, call: Call, delay: Duration) {
        self.0.lock().delays.insert(call, delay);
    }

    /// What was asked for, in order.
    pub fn calls(&self, task: &TaskId) -> Vec<Call> {
        self.0.lock().calls.iter().filter(|(_, of)| of == task).map(|(call, _)| *call).collect()
    }

    /// A container that an earlier run has left; `None` when its shim is gone.
    pub fn put(&self, task: TaskId, phase: Option<Phase>) {
        self.0.lock().containers.insert(task, watch::Sender::new(phase));
    }

    /// A container's log.
    pub fn put_log(&self, task: TaskId, lines: Vec<LogLine>) {
        self.0.lock().logs.insert(task, lines);
    }

    /// The container's first process ends.
    pub fn exit(&self, task: &TaskId, code: i32, oom_killed: bool) {
        self.set(task, Some(Phase::Exited(Exit { code, oom_killed, at_unix_nanos: 0 })));
    }

    /// The container's shim dies.
    pub fn lose_shim(&self, task: &TaskId) {
        self.set(task, None);
    }

    /// Where the container stands; `None` without one.
    pub fn phase(&self, task: &TaskId) -> Option<Phase> {
        self.0.lock().containers.get(task).and_then(|phase| phase.borrow().clone())
    }

    fn set(&self, task: &TaskId, phase: Option<Phase>) {
        if let Some(container) = self.0.lock().containers.get(task) {
            container.send_replace(phase);
        }
    }

    /// Records the call, takes its time, and fails where it is to fail.
    async fn called(&self, call: Call, task: &TaskId) -> Result<(), ContainerError> {
        let delay = {
            let mut state = self.0.lock();
            state.calls.push((call, *task));
            state.delays.get(&call).copied()
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let failure = self.0.lock().failures.get_mut(&call).and_then(VecDeque::pop_front);
        failure.map_or(Ok(()), Err)
    }

    fn known(&self, task: &TaskId) -> Result<watch::Receiver<Option<Phase>>, ContainerError> {
        let state = self.0.lock();
        let container = state.containers.get(task).ok_or(ContainerError::NotFound(*task))?;
        if container.borrow().is_none() {
            return Err(ContainerError::ShimGone(*task));
        }
        Ok(container.subscribe())
    }
}

/// The pid of every fake container.
const PID: i32 = 4242;

#[async_trait]
impl Runtime for FakeRuntime {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareError> {
        let node = |error: ContainerError| PrepareError::Node { step: "prepare".to_owned(), reason: error.to_string() };
        self.called(Call::Prepare, &task.id).await.map_err(node)?;
        let mut state = self.0.lock();
        if let Some(error) = state.prepare_failures.pop_front() {
            return Err(error);
        }
        state.containers.insert(task.id, watch::Sender::new(Some(Phase::Created)));
        let secret_backend = if task.spec.container.secrets.is_empty() { "" } else { "fuse" };
        Ok(Prepared { image_digest: "sha256:fake".to_owned(), secret_backend: secret_backend.to_owned() })
    }

    async fn start(&self, task: &TaskId) -> Result<Running, ContainerError> {
        self.called(Call::Start, task).await?;
        self.known(task)?;
        self.set(task, Some(Phase::Running));
        Ok(Running { pid: PID })
    }

    async fn wait(&self, task: &TaskId) -> Result<Exit, ContainerError> {
        let mut container = self.known(task)?;
        let gone = || ContainerError::ShimGone(*task);
        let ended = container.wait_for(|phase| matches!(phase, None | Some(Phase::Exited(_)))).await;
        match &*ended.map_err(|_| gone())? {
            Some(Phase::Exited(exit)) => Ok(*exit),
            Some(_) | None => Err(gone()),
        }
    }

    async fn stop(&self, task: &TaskId, _signal: &str, _grace: Duration) -> Result<(), ContainerError> {
        self.called(Call::Stop, task).await?;
        self.known(task)?;
        self.exit(task, 143, false);
        Ok(())
    }

    async fn remove(&self, task: &TaskId) -> Result<(), ContainerError> {
        self.called(Call::Remove, task).await?;
        self.0.lock().containers.remove(task);
        Ok(())
    }

    async fn forget(&self, task: &TaskId) -> Result<(), ContainerError> {
        self.called(Call::Forget, task).await?;
        self.0.lock().logs.remove(task);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Observed>, ContainerError> {
        let status = |phase: Phase| {
            let pid = (phase == Phase::Running).then_some(PID);
            Status { protocol: PROTOCOL, phase, pid, secret_backend: "none".to_owned() }
        };
        let state = self.0.lock();
        let observed = state
            .containers
            .iter()
            .map(|(task, phase)| Observed { task: *task, status: phase.borrow().clone().map(status) });
        Ok(observed.collect())
    }

    /// Every command is cat: it gives back what it gets, and ends with 0 when its input ends.
    async fn exec(&self, task: &TaskId, _spec: ExecSpec) -> Result<ExecSession, ContainerError> {
        self.known(task)?;
        let (input, mut inputs) = mpsc::channel(4);
        let (outputs, output) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(ExecInput::Stdin(bytes)) = inputs.recv().await {
                if outputs.send(ExecOutput::Stdout(bytes)).await.is_err() {
                    return;
                }
            }
            let _ = outputs.send(ExecOutput::Exited(0)).await; // nobody may listen any more
        });
        Ok(ExecSession { input, output })
    }

    async fn logs(&self, task: &TaskId, _options: LogOptions) -> Result<LogStream, ContainerError> {
        let lines = self.0.lock().logs.get(task).cloned().ok_or(ContainerError::NotFound(*task))?;
        Ok(futures::stream::iter(lines).map(Ok).boxed())
    }
}
