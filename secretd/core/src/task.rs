//! Tasks: one run of one container of a service.

use secretd_proto::id::{NodeId, ServiceId, TaskId};
use secretd_proto::name::ServiceName;

use crate::service::TaskSpec;
use crate::time::{Meta, Timestamp, Version};

/// A task's state. Ordered: an observed state never goes back (see [`TaskState::advance`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Made by an orchestrator.
    New,
    /// Has all that the cluster allocates; waits for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// The node knows of it.
    Accepted,
    /// The node fetches its image and secrets and makes its container.
    Preparing,
    /// The container waits to be started.
    Ready,
    /// The container is being started.
    Starting,
    /// The container runs.
    Running,
    /// It ended with exit code 0.
    Complete,
    /// It was asked to end, and did.
    Shutdown,
    /// It ended with another exit code, or could not be started.
    Failed,
    /// The node could not prepare it.
    Rejected,
    /// Desired only: end it and forget it.
    Remove,
    /// Its node is gone.
    Orphaned,
}

/// An observed state may not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task does not go back from {from:?} to {to:?}")]
pub struct Regression {
    /// Where the task is.
    pub from: TaskState,
    /// Where it was to go.
    pub to: TaskState,
}

impl TaskState {
    /// Whether the task has ended.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// The state after an observation of `to`.
    ///
    /// # Errors
    /// When `to` is before this state.
    pub fn advance(self, to: Self) -> Result<Self, Regression> {
        if to < self { Err(Regression { from: self, to }) } else { Ok(to) }
    }

    /// The word of Docker's tables: `Running`.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::Pending => "Pending",
            Self::Assigned => "Assigned",
            Self::Accepted => "Accepted",
            Self::Preparing => "Preparing",
            Self::Ready => "Ready",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Complete => "Complete",
            Self::Shutdown => "Shutdown",
            Self::Failed => "Failed",
            Self::Rejected => "Rejected",
            Self::Remove => "Remove",
            Self::Orphaned => "Orphaned",
        }
    }
}

/// A task as the cluster records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// When, and as which accepted change.
    pub meta: Meta,
    /// Whose task.
    pub service_id: ServiceId,
    /// The service's name, for the task's own: `service.slot`.
    pub service_name: ServiceName,
    /// Which of the service's places it fills, from 1.
    pub slot: u64,
    /// Where it runs, once assigned.
    pub node_id: Option<NodeId>,
    /// What it runs: the service's when the task was made.
    pub spec: TaskSpec,
    /// The service's `spec_version` when the task was made.
    pub spec_version: Version,
    /// Where the cluster wants it.
    pub desired_state: TaskState,
    /// Where it is.
    pub status: TaskStatus,
}

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// Observed.
    pub state: TaskState,
    /// Since when.
    pub since: Timestamp,
    /// What is being done.
    pub message: String,
    /// What went wrong, one line; empty when nothing did.
    pub error: String,
    /// The container, once there is one.
    pub container: Option<ContainerStatus>,
    /// What serves its secrets: fuse, tmpfs, ramfs; empty before that is known or without secrets.
    pub secret_backend: String,
}

/// What is known of a task's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// The first process as the node sees it; 0 when there is none.
    pub pid: i64,
    /// Once it has ended.
    pub exit_code: i32,
    /// Whether the kernel's out-of-memory killer ended it.
    pub oom_killed: bool,
    /// The image's configuration digest.
    pub image_digest: String,
}
