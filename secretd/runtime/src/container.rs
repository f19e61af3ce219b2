//! Containers of this node: the [`Runtime`] seam over shims.
//!
//! A container is a shim and four places: `tasks/ID` in the run directory, `snapshots/ID` and `logs/ID` in the data
//! directory, and a control group. `prepare` makes them, `remove` takes all but the log, `forget` the log. What a
//! restart of secretd finds again are the run directories.

mod clean;
mod plan;
pub(crate) mod shim_client;
mod volume;
mod volumes;

use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use secretd_core::seam::images::{Credentials, ImageError, Images};
use secretd_core::seam::runtime::{
    ContainerError, ExecSession, ExecSpec, LogOptions, LogStream, Observed, PrepareError, Prepared, Running, Runtime,
};
use secretd_core::task::Task;
use secretd_proto::id::TaskId;
use secretd_proto::shim::{Exit, Failure, Phase, Request, Response, Status, Step};
use tokio::sync::mpsc;

use crate::images::{ImageStore, ResolvedImage};
use crate::own_program::OwnProgram;
use crate::secret_mount::BackendChoice;
use crate::shim_config::{FILE, SOCKET, ShimConfig};
use crate::{exec, log_reader};

/// How containers are run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data_dir: Utf8PathBuf,
    /// The run directory.
    pub run_dir: Utf8PathBuf,
    /// This program, which is every shim's too.
    pub program: OwnProgram,
    /// The control group below which each container has its own: `/secretd`.
    pub cgroup_parent: String,
}

/// Containers of this node.
#[derive(Debug)]
pub struct ContainerRuntime {
    config: Config,
    images: ImageStore,
    backend: BackendChoice,
    secrets_socket: Utf8PathBuf,
}

impl ContainerRuntime {
    /// The runtime; containers of an earlier run are there as they were.
    pub fn new(config: Config, images: ImageStore, backend: BackendChoice, secrets_socket: Utf8PathBuf) -> Self {
        Self { config, images, backend, secrets_socket }
    }

    /// Tidies up before this process ends: where no container is left, no control group is either.
    pub fn close(&self) {
        clean::empty_cgroup(&self.config.cgroup_parent);
    }

    fn task_dir(&self, task: &TaskId) -> Utf8PathBuf {
        self.config.run_dir.join("tasks").join(task.to_string())
    }

    fn snapshot_dir(&self, task: &TaskId) -> Utf8PathBuf {
        self.config.data_dir.join("snapshots").join(task.to_string())
    }

    fn log_dir(&self, task: &TaskId) -> Utf8PathBuf {
        self.config.data_dir.join("logs").join(task.to_string())
    }

    fn volumes_dir(&self) -> Utf8PathBuf {
        self.config.data_dir.join("volumes")
    }

    fn cgroup(&self, task: &TaskId) -> String {
        format!("{}/{task}", self.config.cgroup_parent.trim_end_matches('/'))
    }

    /// The image, pulled where it is not here and its name says from where.
    async fn image(&self, reference: &str) -> Result<ResolvedImage, PrepareError> {
        let refused = |error: ImageError| {
            if let ImageError::Platform { image, have, want } = error {
                return PrepareError::Platform { image, have, want };
            }
            let missing = matches!(error, ImageError::NotFound(_));
            PrepareError::Image(if missing { format!("No such image: {reference}") } else { error.to_string() })
        };
        match self.images.resolve(reference) {
            Err(ImageError::NotFound(_)) if names_registry(reference) => {
                let (progress, mut told) = mpsc::channel(16);
                let pulling = self.images.pull(reference, false, Credentials::default(), progress);
                let listening = async { while told.recv().await.is_some() {} };
                let (pulled, ()) = tokio::join!(pulling, listening);
                pulled.map_err(refused)?;
                self.images.resolve(reference).map_err(refused)
            }
            found => found.map_err(refused),
        }
    }

    async fn ask(&self, task: &TaskId, request: &Request) -> Result<Response, ContainerError> {
        let dir = self.task_dir(task);
        if !dir.exists() {
            return Err(ContainerError::NotFound(*task));
        }
        shim_client::ask(&dir.join(SOCKET), request).await.map_err(|_| ContainerError::ShimGone(*task))
    }

    async fn done(&self, task: &TaskId, request: &Request) -> Result<(), ContainerError> {
        match self.ask(task, request).await? {
            Response::Done | Response::Status(_) => Ok(()),
            Response::Failed(failure) => Err(failure.into()),
        }
    }

    async fn status(&self, task: &TaskId, request: &Request) -> Result<Status, ContainerError> {
        match self.ask(task, request).await? {
            Response::Status(status) => Ok(status),
            Response::Done => Err(ContainerError::ShimGone(*task)),
            Response::Failed(failure) => Err(failure.into()),
        }
    }

    /// Makes the container of a planned task, up to [`Phase::Created`].
    async fn create(&self, task: &TaskId, plan: &ShimConfig) -> Result<Status, PrepareError> {
        let (dir, program, plan) = (self.task_dir(task), self.config.program.clone(), plan.clone());
        let started = tokio::task::spawn_blocking(move || start_shim(&program, &dir, &plan)).await;
        let started = started.map_err(std::io::Error::other).and_then(|started| started);
        started.map_err(|error| PrepareError::Node { step: "shim".to_owned(), reason: error.to_string() })?;
        let status = self.status(task, &Request::WaitCreated).await;
        match status.map(|status| (status.phase.clone(), status)) {
            Ok((Phase::Failed(failure), _)) => Err(failure.into()),
            Ok((_, status)) => Ok(status),
            Err(_) => {
                let log = std::fs::read_to_string(self.task_dir(task).join("shim.log")).unwrap_or_default();
                let reason = log.lines().last().unwrap_or("it has ended without a word").to_owned();
                Err(PrepareError::Node { step: "shim".to_owned(), reason })
            }
        }
    }

    /// Takes away what a container leaves, shim or no shim.
    async fn take_away(&self, task: &TaskId) -> Result<(), ContainerError> {
        let dir = self.task_dir(task);
        if dir.exists() {
            let _ = self.ask(task, &Request::Kill { signal: Signal::SIGKILL as i32 }).await; // it may be gone
            let _ = self.status(task, &Request::WaitExit).await;
            shim_client::delete(&dir.join(SOCKET)).await;
        }
        let (cgroup, snapshot, id) = (self.cgroup(task), self.snapshot_dir(task), *task);
        let volumes = self.volumes_dir();
        let cleaned = tokio::task::spawn_blocking(move || {
            clean::shim(&dir)?;
            clean::cgroup(&cgroup)?;
            clean::tree(&snapshot)?;
            volume::remove_anonymous(&volumes, &id)?;
            clean::tree(&dir) // last: what is found after a restart is what is not clean yet
        });
        let cleaned = cleaned.await.map_err(std::io::Error::other).and_then(|cleaned| cleaned);
        self.images.unpin(task);
        cleaned.map_err(|error| ContainerError::Node { step: "remove".to_owned(), reason: error.to_string() })
    }
}

/// Whether a reference has a host: only those are pulled unasked.
fn names_registry(reference: &str) -> bool {
    reference.parse::<crate::images::reference::Reference>().is_ok_and(|parsed| parsed.registry.is_some())
}

/// Writes the configuration and starts the shim on a socket that is bound already: who connects waits in its queue.
fn start_shim(program: &OwnProgram, dir: &Utf8Path, plan: &ShimConfig) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let config = dir.join(FILE);
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&config)?;
    serde_json::to_writer(file, plan).map_err(std::io::Error::other)?;
    let socket = dir.join(SOCKET);
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600))?;
    let log = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join("shim.log"))?;
    let mut child = tokio::process::Command::from(program.command())
        .args(["shim", "--task-dir", dir.as_str()])
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .process_group(0)
        .spawn()?;
    tokio::spawn(async move { child.wait().await }); // the shim outlives this process; as long as both are there, its end is taken note of
    Ok(())
}

#[async_trait]
impl Runtime for ContainerRuntime {
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareError> {
        let image = self.image(&task.spec.container.image).await?;
        self.images.pin(&image.id, task.id);
        let plan =
            plan::plan(task, &image, &self.places(&task.id)).map_err(|error| PrepareError::Invalid(error.to_string()));
        let made = match plan {
            Ok(mut plan) => match volume::make(&self.volumes_dir(), &mut plan.config, &plan.volumes) {
                Ok(()) => self.create(&task.id, &plan.config).await,
                Err(error) => Err(PrepareError::Node { step: "volume".to_owned(), reason: error.to_string() }),
            },
            Err(error) => Err(error),
        };
        match made {
            Ok(status) => {
                let secret_backend =
                    if status.secret_backend == "none" { String::new() } else { status.secret_backend };
                Ok(Prepared { image_digest: image.id, secret_backend })
            }
            Err(error) => {
                let _ = self.take_away(&task.id).await; // what went wrong first is what is told
                Err(error)
            }
        }
    }

    async fn start(&self, task: &TaskId) -> Result<Running, ContainerError> {
        self.done(task, &Request::Start).await?;
        let status = self.status(task, &Request::Status).await?;
        Ok(Running { pid: status.pid.unwrap_or_default() })
    }

    async fn wait(&self, task: &TaskId) -> Result<Exit, ContainerError> {
        match self.status(task, &Request::WaitExit).await?.phase {
            Phase::Exited(exit) => Ok(exit),
            Phase::Failed(failure) => Err(failure.into()),
            Phase::Creating | Phase::Created | Phase::Running => Err(ContainerError::ShimGone(*task)),
        }
    }

    async fn stop(&self, task: &TaskId, signal: &str, grace: Duration) -> Result<(), ContainerError> {
        let signal = if signal.is_empty() { self.image_stop_signal(task) } else { signal.to_owned() };
        let number = plan::signal(&signal).map_err(|message| Failure { step: Step::Kill, message })?;
        self.done(task, &Request::Kill { signal: number }).await?;
        if tokio::time::timeout(grace, self.wait(task)).await.is_ok() {
            return Ok(());
        }
        self.done(task, &Request::Kill { signal: Signal::SIGKILL as i32 }).await?;
        self.wait(task).await.map(drop)
    }

    async fn remove(&self, task: &TaskId) -> Result<(), ContainerError> {
        self.take_away(task).await
    }

    async fn forget(&self, task: &TaskId) -> Result<(), ContainerError> {
        let log = self.log_dir(task);
        let removed = tokio::task::spawn_blocking(move || clean::tree(&log)).await;
        let removed = removed.map_err(std::io::Error::other).and_then(|removed| removed);
        removed.map_err(|error| ContainerError::Node { step: "remove log".to_owned(), reason: error.to_string() })
    }

    async fn list(&self) -> Result<Vec<Observed>, ContainerError> {
        let node = |error: std::io::Error| ContainerError::Node { step: "list".to_owned(), reason: error.to_string() };
        let mut found = Vec::new();
        for entry in self.config.run_dir.join("tasks").read_dir_utf8().map_err(node)? {
            let Ok(task) = entry.map_err(node)?.file_name().parse::<TaskId>() else { continue };
            let status = self.status(&task, &Request::Status).await.ok();
            if status.is_some()
                && let Ok(config) = ShimConfig::load(&self.task_dir(&task))
            {
                self.images.pin(&config.image, task);
            }
            found.push(Observed { task, status });
        }
        Ok(found)
    }

    async fn exec(&self, task: &TaskId, spec: ExecSpec) -> Result<ExecSession, ContainerError> {
        let status = self.status(task, &Request::Status).await?;
        if status.phase != Phase::Running {
            return Err(Failure { step: Step::State, message: format!("task {task} is not running") }.into());
        }
        exec::spawn(&self.config.program, &self.task_dir(task), spec).await
    }

    async fn logs(&self, task: &TaskId, options: LogOptions) -> Result<LogStream, ContainerError> {
        log_reader::read(self.log_dir(task), options).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return ContainerError::NotFound(*task);
            }
            ContainerError::Node { step: "logs".to_owned(), reason: error.to_string() }
        })
    }
}

impl ContainerRuntime {
    fn places(&self, task: &TaskId) -> plan::Places {
        plan::Places {
            snapshot: self.snapshot_dir(task),
            log: self.log_dir(task),
            cgroup: self.cgroup(task),
            secrets_socket: self.secrets_socket.clone(),
            backend: self.backend.backend,
        }
    }

    /// What the image says, as the shim's configuration has kept it.
    fn image_stop_signal(&self, task: &TaskId) -> String {
        let signal = ShimConfig::load(&self.task_dir(task)).map(|config| config.stop_signal).unwrap_or_default();
        if signal.is_empty() { "SIGTERM".to_owned() } else { signal }
    }
}
