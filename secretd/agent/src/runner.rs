//! One task's life on this node, from its assignment to its being forgotten.
//!
//! The order is Swarm's: ACCEPTED, PREPARING (secrets, image, container), READY, STARTING, RUNNING, then how it ended. A
//! failure before STARTING is REJECTED, a later one FAILED. What a restart of secretd finds goes on where it was.

mod beginning;
mod end;

use std::sync::Arc;
use std::time::Duration;

use secretd_core::seam::clock::Clock;
use secretd_core::seam::runtime::{ContainerError, Runtime};
use secretd_core::seam::secret_mount::{Mounted, SecretMount, SecretMountError};
use secretd_core::task::{ContainerStatus, Task, TaskState, TaskStatus};
use secretd_proto::id::{NodeId, TaskId};
use secretd_proto::shim::{Phase, Status};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use self::beginning::{Beginning, beginning};
use self::end::End;
use crate::assignment::GrantTold;
use crate::report::Reports;
use crate::secrets::{ApplyError, Applying, PATIENCE, Payloads};

/// Before what failed is tried again; doubled each time.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a container may still take to be made after it is not wanted any more. A fetch of its image may take
/// minutes, all else is over by then.
const LAST_WORK: Duration = Duration::from_secs(1);

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

impl Wanted {
    /// The task, and those of its grants that it still asks for.
    fn task_and_grants(self) -> (Arc<Task>, Vec<GrantTold>) {
        let Self { task, mut grants, .. } = self;
        grants.retain(|told| told.is_for_one_of(&task.spec.container.secrets));
        (task, grants)
    }
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

/// What is done of a task that has ended, as often as it takes.
#[derive(Debug, Clone, Copy)]
enum LastEffect {
    Retract,
    Remove,
    Forget,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    #[error(transparent)]
    Secrets(#[from] SecretMountError),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// The agent itself ends: the container stays.
#[derive(Debug, PartialEq, Eq)]
struct Abandoned;

/// Runs one task.
#[derive(Debug)]
pub(crate) struct Runner {
    context: Context,
    wanted: watch::Receiver<Wanted>,
    container: Option<ContainerStatus>,
    secret_backend: String,
    mounted: Mounted,
    /// The grants that secret-fs has; `None` where an earlier secretd knew.
    applied: Option<Vec<GrantTold>>,
    /// The pause before secrets that are not as granted are brought there again.
    retry: Option<Duration>,
}

impl Wanted {
    /// Whether the task is to end, or has ended in the eyes of the managers.
    fn is_stopping(&self) -> bool {
        self.forgotten || self.task.desired_state > TaskState::Running || self.task.status.state.is_terminal()
    }
}

impl Runner {
    pub(crate) fn new(context: Context, wanted: watch::Receiver<Wanted>) -> Self {
        Self {
            context,
            wanted,
            container: None,
            secret_backend: String::new(),
            mounted: Mounted::Served,
            applied: Some(Vec::new()),
            retry: None,
        }
    }

    /// The task's whole life. Dropping it leaves the container as it is.
    pub(crate) async fn run(mut self, found: Found) {
        let task = self.task();
        if !task.status.state.is_terminal() {
            match self.live(found).await {
                Ok(end) => self.tell_end(&end),
                Err(Abandoned) => return,
            }
        }
        let (retracted, removed) = tokio::join!(self.retract(&task), self.remove(&task));
        if (retracted, removed) != (Ok(()), Ok(())) || self.forgotten().await.is_err() {
            return;
        }
        self.until_done(LastEffect::Forget).await;
        self.context.reports.forget(&task.id);
    }

    fn task(&self) -> Arc<Task> {
        Arc::clone(&self.wanted.borrow().task)
    }

    fn is_stopping(&self) -> bool {
        self.wanted.borrow().is_stopping()
    }

    async fn forgotten(&self) -> Result<(), Abandoned> {
        self.wanted.clone().wait_for(|wanted| wanted.forgotten).await.map(drop).map_err(|_| Abandoned)
    }

    async fn stopping(&self) -> Result<(), Abandoned> {
        self.wanted.clone().wait_for(Wanted::is_stopping).await.map(drop).map_err(|_| Abandoned)
    }

    async fn live(&mut self, found: Found) -> Result<End, Abandoned> {
        let known = self.task().status.clone();
        match beginning(known.state, found) {
            Beginning::New => self.begin().await,
            Beginning::Again => {
                self.until_done(LastEffect::Remove).await;
                self.begin().await
            }
            Beginning::Adopt(status) => {
                self.container = known.container;
                self.secret_backend = known.secret_backend;
                self.adopt(status).await
            }
            Beginning::Ended(end) => {
                self.container = known.container;
                self.secret_backend = known.secret_backend;
                Ok(end)
            }
        }
    }

    async fn adopt(&mut self, status: Status) -> Result<End, Abandoned> {
        self.set_pid(status.pid.unwrap_or_default());
        self.applied = None;
        if status.secret_backend != "none" {
            self.secret_backend = status.secret_backend;
        }
        if status.phase == Phase::Running {
            self.tell(TaskState::Running, "running");
            self.keep_secrets().await;
            return self.running().await;
        }
        self.keep_secrets().await;
        self.start_when_wanted().await
    }

    async fn begin(&mut self) -> Result<End, Abandoned> {
        if self.is_stopping() {
            return Ok(End::Shutdown(None));
        }
        self.tell(TaskState::Accepted, "accepted");
        self.tell(TaskState::Preparing, "preparing");
        if !self.task().spec.container.secrets.is_empty()
            && let Some(end) = self.publish().await?
        {
            return Ok(end);
        }
        if let Some(end) = self.prepare().await? {
            return Ok(end);
        }
        // A rotation may have come between: it found no container to wake.
        self.keep_secrets().await;
        self.start_when_wanted().await
    }

    async fn prepare(&mut self) -> Result<Option<End>, Abandoned> {
        let (runtime, task) = (Arc::clone(&self.context.runtime), self.task());
        let preparing = runtime.prepare(&task);
        tokio::pin!(preparing);
        let prepared = tokio::select! {
            biased;
            prepared = &mut preparing => prepared,
            stopping = self.stopping() => { // cancel-safe, says watch
                stopping?;
                match timeout(LAST_WORK, preparing).await {
                    Ok(prepared) => prepared,
                    Err(_) => return Ok(Some(End::Shutdown(None))),
                }
            }
        };
        match prepared {
            Ok(prepared) => {
                let image_digest = prepared.image_digest;
                self.container = Some(ContainerStatus { pid: 0, exit_code: 0, oom_killed: false, image_digest });
                self.secret_backend = prepared.secret_backend;
                Ok(None)
            }
            Err(error) => Ok(Some(End::Rejected(error.to_string()))),
        }
    }

    /// Publishes once all grants are there for this run of secret-fs. An end where that cannot be.
    async fn publish(&mut self) -> Result<Option<End>, Abandoned> {
        let mut patience = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let (task, grants) = self.wanted.borrow_and_update().clone().task_and_grants();
            let error = match timeout(PATIENCE, self.applying(&task, &grants).publish()).await {
                Ok(Ok(())) => {
                    self.applied = Some(grants);
                    return Ok(None);
                }
                Ok(Err(error)) => error,
                Err(_) => ApplyError::NotGranted,
            };
            if grants.is_empty() {
                patience = Instant::now() + PATIENCE; // a manager without the node's key says nothing yet
            }
            if self.is_stopping() {
                return Ok(Some(End::Shutdown(None)));
            }
            if !error.is_transient() || Instant::now() >= patience {
                return Ok(Some(End::Rejected(error.to_string())));
            }
            match timeout_at(patience.min(Instant::now() + pause), self.wanted.changed()).await {
                Ok(changed) => changed.map_err(|_| Abandoned)?,
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    fn applying<'a>(&'a self, task: &'a Task, told: &'a [GrantTold]) -> Applying<'a> {
        let Context { node, secret_mount, payloads, .. } = &self.context;
        Applying { mount: secret_mount.as_ref(), payloads, node: *node, task, told }
    }

    /// Brings the secrets of the container to what is granted now. What cannot be done yet is tried again.
    async fn keep_secrets(&mut self) {
        let (task, grants) = self.wanted.borrow_and_update().clone().task_and_grants();
        let never_had = self.secret_backend.is_empty() && task.spec.container.secrets.is_empty();
        if never_had || self.applied.as_ref() == Some(&grants) {
            return;
        }
        let mut mounted = self.mounted;
        let updated = timeout(PATIENCE, self.applying(&task, &grants).update(&mut mounted)).await;
        self.mounted = mounted;
        let pause = self.retry.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.retry = match updated {
            Ok(Ok(())) => {
                self.applied = Some(grants);
                None
            }
            Ok(Err(ApplyError::NotGranted)) => None, // the grants wake the runner
            Ok(Err(error)) => {
                if self.retry.is_none() && !error.is_transient() {
                    // The error's text may have paths, and with them names of secrets.
                    let step = error.step();
                    tracing::error!(task = %task.id, step, "a task's secrets could not be updated; it is tried again");
                }
                Some(pause)
            }
            Err(_) => Some(pause),
        };
    }

    /// Returns when something else is wanted, or when secrets are to be tried again. Cancel-safe.
    async fn changed(&mut self) -> Result<(), Abandoned> {
        let Some(pause) = self.retry else { return self.wanted.changed().await.map_err(|_| Abandoned) };
        match timeout(pause, self.wanted.changed()).await {
            Ok(changed) => changed.map_err(|_| Abandoned),
            Err(_) => Ok(()),
        }
    }

    async fn start_when_wanted(&mut self) -> Result<End, Abandoned> {
        self.tell(TaskState::Ready, "prepared");
        while self.task().desired_state < TaskState::Running && !self.is_stopping() {
            self.changed().await?;
            self.keep_secrets().await;
        }
        if self.is_stopping() {
            return Ok(End::Shutdown(None));
        }
        self.tell(TaskState::Starting, "starting");
        match self.context.runtime.start(&self.task().id).await {
            Ok(running) => self.set_pid(running.pid),
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
                    Err(error) => End::lost(&error),
                }),
                changed = self.changed() => changed?, // cancel-safe
            }
            self.keep_secrets().await;
        }
    }

    /// A container may take its time to end: what it may read is kept as granted meanwhile, so that nothing that is
    /// revoked stays readable.
    async fn stop(&mut self) -> End {
        let (runtime, task) = (Arc::clone(&self.context.runtime), self.task());
        let container = &task.spec.container;
        let stopping = runtime.stop(&task.id, &container.stop_signal, container.stop_grace_period);
        tokio::pin!(stopping);
        let stopped = loop {
            tokio::select! {
                biased;
                stopped = &mut stopping => break stopped,
                Ok(()) = self.changed() => self.keep_secrets().await, // cancel-safe
            }
        };
        match stopped {
            Ok(()) => End::Shutdown(runtime.wait(&task.id).await.ok()),
            Err(ContainerError::NotFound(_) | ContainerError::ShimGone(_)) => End::Shutdown(None),
            Err(error) => {
                tracing::warn!(task = %task.id, %error, "a container could not be stopped; it is killed");
                End::Shutdown(None)
            }
        }
    }

    fn set_pid(&mut self, pid: i32) {
        let none = || ContainerStatus { pid: 0, exit_code: 0, oom_killed: false, image_digest: String::new() };
        self.container.get_or_insert_with(none).pid = i64::from(pid);
    }

    fn tell(&self, state: TaskState, message: &str) {
        self.tell_all(state, message, String::new());
    }

    fn tell_all(&self, state: TaskState, message: &str, error: String) {
        let known = self.task();
        if known.status.state.advance(state).is_err() {
            return; // adopted: it is known to be further
        }
        let adopted = known.status.state == state;
        let since = if adopted { known.status.since } else { self.context.clock.now() };
        self.context.reports.report(
            known.id,
            TaskStatus {
                state,
                since,
                message: message.to_owned(),
                error,
                container: self.container.clone(),
                secret_backend: self.secret_backend.clone(),
            },
        );
    }

    fn tell_end(&mut self, end: &End) {
        if let (Some(container), Some(exit)) = (&mut self.container, end.exit()) {
            container.exit_code = exit.code;
            container.oom_killed = exit.oom_killed;
        }
        if let Some(container) = &mut self.container {
            container.pid = 0;
        }
        let (state, message, error) = end.told();
        self.tell_all(state, message, error);
    }

    /// Ends all reading of the task's secrets.
    async fn retract(&self, task: &Task) -> Result<(), Abandoned> {
        // An adopted task may have lost its secrets from the specification by a revocation.
        if !task.spec.container.secrets.is_empty() || !self.secret_backend.is_empty() {
            self.until_done(LastEffect::Retract).await;
        }
        Ok(())
    }

    /// Removes the container, once a manager knows how it ended: until then it is what tells that after a restart. The
    /// log stays until the task is forgotten.
    async fn remove(&self, task: &Task) -> Result<(), Abandoned> {
        tokio::select! {
            () = self.context.reports.told(&task.id) => {}
            forgotten = self.forgotten() => forgotten?,
        }
        self.until_done(LastEffect::Remove).await;
        Ok(())
    }

    /// Repeats what must be done in the end.
    async fn until_done(&self, effect: LastEffect) {
        let task = self.task();
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.try_once(effect, &task.id).await {
            if pause == FIRST_PAUSE {
                tracing::warn!(task = %task.id, %error, ?effect, "a task could not be cleaned up; it is tried again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_once(&self, effect: LastEffect, task: &TaskId) -> Result<(), CleanError> {
        let Context { runtime, secret_mount, .. } = &self.context;
        match effect {
            LastEffect::Retract => Ok(secret_mount.retract(task).await?),
            LastEffect::Remove => Ok(runtime.remove(task).await?),
            LastEffect::Forget => Ok(runtime.forget(task).await?),
        }
    }
}
