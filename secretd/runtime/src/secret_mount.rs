//! The node's side of secret-fs: starts it, finds it again after a restart, starts it again when it dies, and carries
//! the agent's calls to it. Ciphertext and wrapped keys pass through here; plaintext never does.

mod audit_log;
mod connection;
mod probe;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use secretd_core::node::SecretsStatus;
use secretd_core::seam::secret_mount::{Mounted, SecretMount, SecretMountError, TaskSecrets};
use secretd_proto::fs::{Grant, Request, Response, Target};
use secretd_proto::id::{SecretId, TaskId};
use secretd_proto::shim;
use tokio::sync::watch;

pub use self::audit_log::AuditLog;
use self::connection::{Connection, OpenError};
pub use self::probe::{BackendChoice, probe};
use crate::container::shim_client;
use crate::shim_config::{Backend, SOCKET};

/// How secret-fs is run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The run directory, for the socket and the tasks' shims.
    pub run_dir: Utf8PathBuf,
    /// Where reads are recorded.
    pub audit: AuditLog,
    /// The binary.
    pub program: PathBuf,
    /// The user and group that it becomes.
    pub identity: (u32, u32),
}

/// The first pause after secret-fs has died right after its start; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often the size of the audit log is looked at, and what secret-fs says of itself.
const CHECK: Duration = Duration::from_secs(1);

/// How long secret-fs or a shim may take for one call: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that lasted this long was a good one: the next begins at once.
const GOOD_RUN: Duration = Duration::from_secs(1);

/// The secret mounts of this node. Clones share the connection.
#[derive(Debug, Clone)]
pub struct SecretFs {
    config: Arc<Config>,
    backend: BackendChoice,
    status: watch::Sender<SecretsStatus>,
    /// Taken for the time of a call. A call that is cancelled leaves none, and the next one connects anew.
    calls: Arc<tokio::sync::Mutex<Option<Connection>>>,
}

impl SecretFs {
    /// What serves the secrets of this node is probed now; secret-fs itself is the business of [`SecretFs::supervise`].
    pub fn new(config: Config) -> Self {
        let backend = probe();
        let status = SecretsStatus {
            backend: backend.name.to_owned(),
            backend_reason: backend.reason.clone(),
            ..SecretsStatus::default()
        };
        Self { config: Arc::new(config), backend, status: watch::Sender::new(status), calls: Arc::default() }
    }

    /// What serves the secrets of this node.
    pub fn backend(&self) -> &BackendChoice {
        &self.backend
    }

    /// The socket that shims connect to.
    pub fn socket(&self) -> Utf8PathBuf {
        self.config.run_dir.join("secret-fs.sock")
    }

    /// Keeps secret-fs running. Ends never; to be owned by the process's supervisor.
    pub async fn supervise(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = tokio::time::Instant::now();
            match self.run_once().await {
                Ok(()) => tracing::warn!("secret-fs has ended; it is started again"),
                Err(error) => tracing::error!(%error, "secret-fs does not start"),
            }
            self.status.send_modify(|status| status.public_key.clear());
            *self.calls.lock().await = None;
            if started.elapsed() >= GOOD_RUN {
                pause = FIRST_PAUSE;
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Finds a running secret-fs or starts one, tells the world, and waits for its end.
    async fn run_once(&self) -> std::io::Result<()> {
        // Only where nobody serves: a second one would take the name from one whose files containers read.
        let connection = match self.connect().await {
            Err(OpenError::Nobody) => self.start().await?,
            Err(OpenError::OtherRelease(process)) => {
                tracing::warn!("the secret-fs that runs is of another release; it is ended and started anew");
                process::end(process)?;
                self.start().await?
            }
            Err(OpenError::Socket(error)) => return Err(error),
            Ok(connection) => {
                self.with_audit_log(AuditLog::hand_over).await?; // a rotation may have ended halfway
                connection
            }
        };
        let public_key = connection.public_key.to_vec();
        self.look().await.map_err(std::io::Error::other)?;
        self.status.send_modify(|known| known.public_key = public_key);
        tracing::info!("secret-fs serves");
        tokio::select! {
            () = connection.until_closed() => Ok(()),
            () = self.keep_in_view() => Ok(()),
        }
    }

    async fn connect(&self) -> Result<Connection, OpenError> {
        let opened = tokio::time::timeout(PATIENCE, Connection::open(&self.socket())).await;
        opened.unwrap_or_else(|_| Err(OpenError::Socket(std::io::ErrorKind::TimedOut.into())))
    }

    async fn start(&self) -> std::io::Result<Connection> {
        let (socket, config, backend) = (self.socket(), self.config.clone(), self.backend.backend);
        let start = tokio::task::spawn_blocking(move || process::start(&config, &socket, backend)).await;
        start.map_err(std::io::Error::other)??;
        self.connect().await.map_err(std::io::Error::other)
    }

    /// Tells how secret-fs is protected now.
    async fn look(&self) -> Result<(), SecretMountError> {
        let Response::Status(status) = self.ask(&Request::Status).await? else {
            return Err(SecretMountError::Unreachable);
        };
        let weaknesses: Vec<String> = status.weaknesses.into_iter().chain(self.backend.weakness.clone()).collect();
        self.status.send_if_modified(|known| {
            let before = (&known.memory, &known.sandbox, &known.weaknesses);
            if before == (&status.memory, &status.sandbox, &weaknesses) {
                return false;
            }
            (known.memory, known.sandbox, known.weaknesses) = (status.memory, status.sandbox, weaknesses);
            true
        });
        Ok(())
    }

    /// Rotates the audit log whenever it is full, and tells what secret-fs says of itself. Ends never; a rotation that is
    /// cancelled goes on in its thread.
    async fn keep_in_view(&self) {
        let mut ticks = tokio::time::interval(CHECK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let _ = self.look().await; // its end is seen on the connection
            let rotated = self.with_audit_log(AuditLog::rotate_when_full).await;
            if let (Err(error), false) = (&rotated, failing) {
                tracing::warn!(%error, "the audit log cannot be rotated; it grows, and this is tried again");
            }
            failing = rotated.is_err();
        }
    }

    async fn with_audit_log(
        &self,
        work: impl FnOnce(&AuditLog, &Utf8Path) -> std::io::Result<()> + Send + 'static,
    ) -> std::io::Result<()> {
        let (socket, config) = (self.socket(), Arc::clone(&self.config));
        tokio::task::spawn_blocking(move || work(&config.audit, &socket)).await.map_err(std::io::Error::other)?
    }

    async fn ask(&self, request: &Request) -> Result<Response, SecretMountError> {
        let mut slot = self.calls.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(|_| SecretMountError::Unreachable)?,
        };
        // A connection whose answer did not come is dropped: the answer would be taken for that of the next call.
        let response = match tokio::time::timeout(PATIENCE, connection.ask(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) | Err(_) => return Err(SecretMountError::Unreachable),
        };
        *slot = Some(connection);
        match response {
            Response::Refused(refusal) => Err(refusal.into()),
            Response::Hello { .. } | Response::Done | Response::Changed { .. } | Response::Status(_) => Ok(response),
        }
    }

    async fn ask_shim(&self, task: &TaskId, request: shim::Request) -> Result<(), SecretMountError> {
        let socket = self.config.run_dir.join("tasks").join(task.to_string()).join(SOCKET);
        let silent = |reason: &dyn std::fmt::Display| {
            Err(SecretMountError::Shim(format!("the shim of task {task} does not answer: {reason}")))
        };
        match tokio::time::timeout(PATIENCE, shim_client::ask(&socket, &request)).await {
            Ok(Ok(shim::Response::Failed(failure))) => Err(SecretMountError::Shim(failure.message)),
            Ok(Ok(shim::Response::Done | shim::Response::Status(_))) => Ok(()),
            Ok(Err(error)) => silent(&error),
            Err(elapsed) => silent(&elapsed),
        }
    }
}

#[async_trait]
impl SecretMount for SecretFs {
    fn status(&self) -> watch::Receiver<SecretsStatus> {
        self.status.subscribe()
    }

    async fn store(&self, secret: SecretId, version: u64, ciphertext: Vec<u8>) -> Result<(), SecretMountError> {
        self.ask(&Request::Store { secret, version, ciphertext }).await.map(drop)
    }

    async fn forget(&self, secret: SecretId, version: u64) -> Result<(), SecretMountError> {
        self.ask(&Request::Forget { secret, version }).await.map(drop)
    }

    async fn publish(&self, task: &TaskId, secrets: TaskSecrets) -> Result<(), SecretMountError> {
        let TaskSecrets { cluster, node, grants } = secrets;
        self.ask(&Request::Publish { task: *task, cluster, node, grants }).await.map(drop)
    }

    async fn update(&self, task: &TaskId, grants: Vec<Grant>) -> Result<Mounted, SecretMountError> {
        let request = Request::Update { task: *task, grants };
        let Response::Changed { targets, attached } = self.ask(&request).await? else {
            return Err(SecretMountError::Unreachable);
        };
        if self.backend.backend == Backend::Fuse && !attached {
            return Ok(Mounted::Not);
        }
        if !targets.is_empty() {
            let paths = targets.iter().map(Target::path_in_filesystem).collect();
            self.ask_shim(task, shim::Request::Wake { paths }).await?;
            self.ask(&Request::Woken { task: *task, targets }).await?;
        }
        Ok(Mounted::Served)
    }

    async fn remount(&self, task: &TaskId) -> Result<(), SecretMountError> {
        self.ask_shim(task, shim::Request::Remount).await
    }

    async fn retract(&self, task: &TaskId) -> Result<(), SecretMountError> {
        self.ask(&Request::Retract { task: *task }).await.map(drop)
    }
}
