//! What secretd says to the shim of one container.
//!
//! Transport: a Unix stream socket `shim.sock` in the task's run directory, frames as in [`crate::fs`]. Any number of
//! connections; each [`Request`] gets one [`Response`], in order. The shim accepts root alone (SO_PEERCRED).

use serde::{Deserialize, Serialize};

/// Refused when the two ends disagree. A shim outlives the secretd that started it, so a change of this protocol must
/// keep reading the older one.
pub const PROTOCOL: u16 = 1;

/// What a shim is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Where the container stands.
    Status,
    /// Answered once the container is created, with its secrets mounted, or has failed.
    WaitCreated,
    /// Starts the created container.
    Start,
    /// Sends a signal to the container's first process. SIGKILL ends every process in it: the kernel kills a PID
    /// namespace with its first process (pid_namespaces(7)).
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// Answered once the container has ended.
    WaitExit,
    /// Wakes the watchers of changed secrets with real operations on the private clone of the mount.
    Wake {
        /// The files, as paths below the root of the task's filesystem.
        paths: Vec<String>,
    },
    /// Replaces the secret mount in place, after secret-fs has been restarted and has the task's secrets again.
    Remount,
    /// New size of the container's terminal.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Ends the shim of an ended container: deletes the container and its cgroup.
    Delete,
}

/// The answer to one [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// Where the container stands.
    Status(Status),
    /// Refused or failed.
    Failed(Failure),
}

/// A container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The shim is making it.
    Creating,
    /// It waits for [`Request::Start`].
    Created,
    /// Its first process runs.
    Running,
    /// Its first process has ended.
    Exited(Exit),
    /// It could not be made.
    Failed(Failure),
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`PROTOCOL`] of the shim.
    pub protocol: u16,
    /// The container's life.
    pub phase: Phase,
    /// The first process as the host sees it, when there is one.
    pub pid: Option<i32>,
    /// What serves the secrets: `fuse`, `tmpfs`, `ramfs`, or `none` without secrets.
    pub secret_backend: String,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, or 128 + the signal's number.
    pub code: i32,
    /// Whether the kernel's out-of-memory killer did it.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970.
    pub at_unix_nanos: i64,
}

/// Why a shim could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// One line for people.
    pub message: String,
}

/// The steps of a container's life that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The root filesystem could not be mounted.
    Rootfs,
    /// A mount's source is missing or not allowed.
    Mount,
    /// The secret mount could not be made or attached.
    Secrets,
    /// The container could not be created.
    Create,
    /// The command does not exist in the image or is not executable.
    Command,
    /// The container could not be started otherwise.
    Start,
    /// A signal could not be sent.
    Kill,
    /// The container is not in a state that allows this.
    State,
}
