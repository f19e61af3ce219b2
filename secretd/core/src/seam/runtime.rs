//! Containers of this node.
//!
//! A container belongs to one task and lives through `prepare`, `start`, `stop`, `remove`; every call may be repeated.
//! Containers outlive secretd: after a restart, `list` shows what is there and the calls work on it as before.
//! A call that is cancelled may have happened: `list` tells.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
use secretd_proto::id::TaskId;
use secretd_proto::shim;
use tokio::sync::mpsc;

use crate::task::Task;
use crate::time::Timestamp;

/// A container whose first process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The first process as the node sees it.
    pub pid: i32,
}

/// What `prepare` found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The image's configuration digest.
    pub image_digest: String,
    /// What serves the secrets; empty without secrets.
    pub secret_backend: String,
}

/// A container as the node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whose container.
    pub task: TaskId,
    /// Where it stands; `None` when its shim is gone and only its remains are there.
    pub status: Option<shim::Status>,
}

/// Why a container could not be prepared. Nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No such image here, and it could not be pulled.
    #[error("{0}")]
    Image(String),
    /// The image is for another platform.
    #[error("image {image} is for {have}, this node is {want}: use an image for {want}")]
    Platform {
        /// The image.
        image: String,
        /// `os/architecture` of the image.
        have: String,
        /// Of the node.
        want: String,
    },
    /// The specification asks for what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A step of the shim failed.
    #[error(transparent)]
    Shim(#[from] shim::Failure),
    /// The node itself failed: disk full, no memory.
    #[error("{step}: {reason}")]
    Node {
        /// What was being done.
        step: String,
        /// The system's words.
        reason: String,
    },
}

/// Why a call on a container failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// There is no such container.
    #[error("task {0} has no container here")]
    NotFound(TaskId),
    /// Its shim is gone: the container is too.
    #[error("the shim of task {0} is gone")]
    ShimGone(TaskId),
    /// The shim refused or failed.
    #[error(transparent)]
    Shim(#[from] shim::Failure),
    /// The node itself failed.
    #[error("{step}: {reason}")]
    Node {
        /// What was being done.
        step: String,
        /// The system's words.
        reason: String,
    },
}

/// A command to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Beyond the container's.
    pub env: Vec<String>,
    /// Empty for the container's.
    pub user: String,
    /// Empty for the container's.
    pub workdir: String,
    /// With standard input.
    pub interactive: bool,
    /// With a terminal.
    pub tty: bool,
    /// Of the terminal: lines, columns.
    pub size: Option<(u16, u16)>,
}

/// What goes into a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes of standard input.
    Stdin(Vec<u8>),
    /// Its end.
    StdinClosed,
    /// New size of the terminal: lines, columns.
    Resize(u16, u16),
    /// A signal for the command.
    Signal(i32),
}

/// What comes out of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// Its end: the exit code, or 128 + the signal's number. Last.
    Exited(i32),
}

/// A running command. Dropping both ends kills it.
#[derive(Debug)]
pub struct ExecSession {
    /// Into it. Bounded: a full channel means the command does not read.
    pub input: mpsc::Sender<ExecInput>,
    /// Out of it. Bounded: the command waits while it is full.
    pub output: mpsc::Receiver<ExecOutput>,
}

/// Which lines of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Goes on with new lines until the container is removed.
    pub follow: bool,
    /// The last so many; `None` for all.
    pub tail: Option<u64>,
    /// No older ones.
    pub since: Option<Timestamp>,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Whether it came from standard error.
    pub stderr: bool,
    /// When it came.
    pub at: Timestamp,
    /// With its newline, where it has one.
    pub line: Vec<u8>,
}

/// A stream of log lines.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogLine, ContainerError>> + Send>>;

/// Containers of this node.
#[async_trait]
pub trait Runtime: Send + Sync + std::fmt::Debug {
    /// Finds or pulls the image, makes the root filesystem and the container, attaches the task's secrets.
    async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareError>;
    /// Starts the prepared container.
    async fn start(&self, task: &TaskId) -> Result<Running, ContainerError>;
    /// Waits for its end.
    async fn wait(&self, task: &TaskId) -> Result<shim::Exit, ContainerError>;
    /// Sends `signal` (empty: the image's, else SIGTERM), then SIGKILL to all of it after `grace`; returns when it has ended.
    async fn stop(&self, task: &TaskId, signal: &str, grace: Duration) -> Result<(), ContainerError>;
    /// Kills what runs and removes the container and its root filesystem; its log stays until `forget`. Idempotent.
    async fn remove(&self, task: &TaskId) -> Result<(), ContainerError>;
    /// Removes what `remove` left: the log. Idempotent.
    async fn forget(&self, task: &TaskId) -> Result<(), ContainerError>;
    /// Everything that is there.
    async fn list(&self) -> Result<Vec<Observed>, ContainerError>;
    /// Runs a command in a running container.
    async fn exec(&self, task: &TaskId, spec: ExecSpec) -> Result<ExecSession, ContainerError>;
    /// The container's log, also after its end.
    async fn logs(&self, task: &TaskId, options: LogOptions) -> Result<LogStream, ContainerError>;
}
