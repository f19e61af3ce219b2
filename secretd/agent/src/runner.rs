//! One task's life on this node, from its assignment to its being forgotten.
//!
//! The order is Swarm's: ACCEPTED, PREPARING (secrets, image, container), READY, STARTING, RUNNING, then how it ended. A
//! failure before STARTING is REJECTED, a later one FAILED. What a restart of secretd finds goes on where it was.

use std::fmt::Display;
use std::sync::Arc;

use secretd_core::seam::clock::Clock;
use secretd_core::seam::runtime::{ContainerError, Runtime};
use secretd_core::seam::secret_mount::SecretMount;
use secretd_core::task::{ContainerStatus, Task, TaskState, TaskStatus};
use secretd_proto::id::NodeId;
use secretd_proto::shim::{Exit, Phase, Status};
use tokio::sync::watch;

use crate::assignment::GrantTold;
use crate::report::Reports;
use crate::secrets::{self, ApplyError, PATIENCE, Payloads};

/// What a runner works with.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) node: NodeId,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) secret_mount: Arc<dyn SecretMount>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) payloads: Payloads,
    pub(crate) reports: Reports,
}

/// What is wanted of a task.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) task: Arc<Task>,
    pub(crate) grants: Vec<GrantTold>,
    /// No manager knows the task any more.
    pub(crate) forgotten: bool,
}

/// What there was of the task when the runner began.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// No container.
    Nothing,
    /// A container whose shim has died.
    Remains,
    /// A container.
    Container(Status),
}

/// How a task ended.
#[derive(Debug)]
enum End {
    Shutdown,
    Rejected(String),
    Failed(String),
    Exited(Exit),
}

/// The agent itself ends: the container stays.
struct Abandoned;

/// Runs one task.
#[derive(Debug)]
pub(crate) struct Runner {
    context: Context,
    wanted: watch::Receiver<Wanted>,
    container: ContainerStatus,
    secret_backend: String,
}

impl Runner {
    pub(crate) fn new(context: Context, wanted: watch::Receiver<Wanted>) -> Self {
        let container = ContainerStatus { pid: 0, exit_code: 0, oom_killed: false, image_digest: String::new() };
        Self { context, wanted, container, secret_backend: String::new() }
    }

    /// The task's whole life. Dropping it leaves the container as it is.
    pub(crate) async fn run(mut self, found: Found) {
        let task = self.task();
        if task.status.state.is_terminal() {
            self.clean(&task).await;
        } else {
            match self.live(found).await {
                Ok(end) => {
                    self.tell_end(end);
                    self.clean(&task).await;
                }
                Err(Abandoned) => return,
            }
        }
        if self.wanted.wait_for(|wanted| wanted.forgotten).await.is_err() {
            return;
        }
        if let Err(error) = self.context.runtime.forget(&task.id).await {
            tracing::warn!(task = %task.id, %error, "what is left of a task could not be removed");
        }
        self.context.reports.forget(&task.id);
    }

    fn task(&self) -> Arc<Task> {
        Arc::clone(&self.wanted.borrow().task)
    }

    fn is_stopping(&self) -> bool {
        let wanted = self.wanted.borrow();
        wanted.forgotten || wanted.task.desired_state > TaskState::Running
    }

    async fn live(&mut self, found: Found) -> Result<End, Abandoned> {
        let known = self.task().status.state;
        match found {
            Found::Container(status) => self.adopt(status).await,
            Found::Remains => Ok(End::Failed("the container was lost: its shim has died".to_owned())),
            Found::Nothing if known >= TaskState::Ready => {
                Ok(End::Failed("the container was lost: has the node been restarted?".to_owned()))
            }
            Found::Nothing => self.begin().await,
        }
    }

    async fn adopt(&mut self, status: Status) -> Result<End, Abandoned> {
        self.container.pid = i64::from(status.pid.unwrap_or_default());
        let known = self.task().status.clone();
        if let Some(container) = known.container {
            self.container.image_digest = container.image_digest;
        }
        self.secret_backend = known.secret_backend;
        match status.phase {
            Phase::Created => {
                self.keep_secrets().await;
                self.start_when_wanted().await
            }
            Phase::Running => {
                self.tell(TaskState::Running, "running");
                self.keep_secrets().await;
                self.running().await
            }
            Phase::Exited(exit) => Ok(End::Exited(exit)),
            Phase::Failed(failure) => Ok(End::Rejected(failure.message)),
            Phase::Creating => Ok(End::Failed("the container was not made before secretd ended".to_owned())),
        }
    }

    async fn begin(&mut self) -> Result<End, Abandoned> {
        if self.is_stopping() {
            return Ok(End::Shutdown);
        }
        self.tell(TaskState::Accepted, "accepted");
        self.tell(TaskState::Preparing, "preparing");
        if !self.task().spec.container.secrets.is_empty()
            && let Some(end) = self.publish().await?
        {
            return Ok(end);
        }
        let task = self.task();
        match self.context.runtime.prepare(&task).await {
            Ok(prepared) => {
                self.container.image_digest = prepared.image_digest;
                self.secret_backend = prepared.secret_backend;
            }
            Err(error) => return Ok(End::Rejected(error.to_string())),
        }
        // A rotation may have come between: it found no container to wake.
        self.keep_secrets().await;
        self.start_when_wanted().await
    }

    /// Publishes once all grants are there for this run of secret-fs. An end where that cannot be.
    async fn publish(&mut self) -> Result<Option<End>, Abandoned> {
        let mut patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let Wanted { task, grants, .. } = self.wanted.borrow_and_update().clone();
            let (context, granted) = (&self.context, !grants.is_empty());
            let mount = context.secret_mount.as_ref();
            let why = match secrets::publish(mount, &context.payloads, context.node, &task, &grants).await {
                Ok(()) => return Ok(None),
                Err(ApplyError::Refused(why)) => return Ok(Some(End::Rejected(why))),
                Err(not_yet @ ApplyError::NotYet) => not_yet.to_string(),
            };
            if !granted {
                patience = tokio::time::Instant::now() + PATIENCE; // a manager without the node's key says nothing yet
            }
            match tokio::time::timeout_at(patience, self.wanted.changed()).await {
                Ok(Ok(())) if self.is_stopping() => return Ok(Some(End::Shutdown)),
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Abandoned),
                Err(_) if granted => return Ok(Some(End::Rejected(why))),
                Err(_) => {}
            }
        }
    }

    /// Brings the secrets of the container to what is granted now. What cannot be done yet is done when the grants for
    /// this run of secret-fs come.
    async fn keep_secrets(&mut self) {
        let Wanted { task, grants, .. } = self.wanted.borrow_and_update().clone();
        if task.spec.container.secrets.is_empty() {
            return;
        }
        let context = &self.context;
        match secrets::update(context.secret_mount.as_ref(), &context.payloads, context.node, &task, &grants).await {
            Ok(()) | Err(ApplyError::NotYet) => {}
            Err(ApplyError::Refused(why)) => {
                tracing::error!(task = %task.id, %why, "a task's secrets could not be updated")
            }
        }
    }

    async fn start_when_wanted(&mut self) -> Result<End, Abandoned> {
        self.tell(TaskState::Ready, "prepared");
        while self.task().desired_state < TaskState::Running && !self.is_stopping() {
            self.wanted.changed().await.map_err(|_| Abandoned)?;
            self.keep_secrets().await;
        }
        if self.is_stopping() {
            return Ok(End::Shutdown);
        }
        self.tell(TaskState::Starting, "starting");
        match self.context.runtime.start(&self.task().id).await {
            Ok(running) => self.container.pid = i64::from(running.pid),
            Err(error) => return Ok(End::Failed(format!("starting container failed: {error}"))),
        }
        self.tell(TaskState::Running, "running");
        self.running().await
    }

    async fn running(&mut self) -> Result<End, Abandoned> {
        let (runtime, id) = (Arc::clone(&self.context.runtime), self.task().id);
        let wait = runtime.wait(&id);
        tokio::pin!(wait);
        loop {
            if self.is_stopping() {
                return Ok(self.stop().await);
            }
            tokio::select! {
                biased;
                ended = &mut wait => return Ok(match ended {
                    Ok(exit) => End::Exited(exit),
                    Err(error) => End::Failed(lost(&error)),
                }),
                changed = self.wanted.changed() => changed.map_err(|_| Abandoned)?, // cancel-safe, says watch
            }
            self.keep_secrets().await;
        }
    }

    async fn stop(&self) -> End {
        let task = self.task();
        let container = &task.spec.container;
        match self.context.runtime.stop(&task.id, &container.stop_signal, container.stop_grace_period).await {
            Ok(()) | Err(ContainerError::NotFound(_) | ContainerError::ShimGone(_)) => {}
            Err(error) => tracing::warn!(task = %task.id, %error, "a container could not be stopped; it is removed"),
        }
        End::Shutdown
    }

    fn tell(&self, state: TaskState, message: &str) {
        self.tell_all(state, message, String::new());
    }

    fn tell_all(&self, state: TaskState, message: &str, error: String) {
        let known = self.task();
        if state < known.status.state {
            return; // adopted: it is known to be further
        }
        let has_container = !self.container.image_digest.is_empty();
        self.context.reports.report(
            known.id,
            TaskStatus {
                state,
                since: self.context.clock.now(),
                message: message.to_owned(),
                error,
                container: has_container.then(|| self.container.clone()),
                secret_backend: self.secret_backend.clone(),
            },
        );
    }

    fn tell_end(&mut self, end: End) {
        let (state, message, error) = match end {
            End::Shutdown => (TaskState::Shutdown, "shutdown", String::new()),
            End::Rejected(why) => (TaskState::Rejected, "preparing", why),
            End::Failed(why) => (TaskState::Failed, "started", why),
            End::Exited(exit) => {
                self.container.exit_code = exit.code;
                self.container.oom_killed = exit.oom_killed;
                match (exit.code, exit.oom_killed) {
                    (0, _) => (TaskState::Complete, "finished", String::new()),
                    (code, true) => {
                        (TaskState::Failed, "started", format!("task: non-zero exit ({code}): out of memory"))
                    }
                    (code, false) => (TaskState::Failed, "started", format!("task: non-zero exit ({code})")),
                }
            }
        };
        self.container.pid = 0;
        self.tell_all(state, message, error);
    }

    /// Wipes the secrets and removes the container. The log stays until the task is forgotten.
    async fn clean(&self, task: &Task) {
        let warn = |what: &str, error: &dyn Display| tracing::warn!(task = %task.id, %error, "{what}");
        if !task.spec.container.secrets.is_empty()
            && let Err(error) = self.context.secret_mount.retract(&task.id).await
        {
            warn("a task's secrets could not be retracted", &error);
        }
        if let Err(error) = self.context.runtime.remove(&task.id).await {
            warn("a container could not be removed", &error);
        }
    }
}

fn lost(error: &ContainerError) -> String {
    match error {
        ContainerError::NotFound(_) | ContainerError::ShimGone(_) => {
            "the container was lost: its shim has died".to_owned()
        }
        ContainerError::Shim(_) | ContainerError::Node { .. } => error.to_string(),
    }
}
