//! Gives a task what the cluster allocates before it may be placed.
//!
//! There are no networks, addresses or ports to allocate yet, so every new task passes. It is a step of its own so that
//! tasks keep Swarm's states, and a failure has a place to show: the task's status.

use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_core::time::Timestamp;

/// The task's status once it has everything; `None` when there is nothing to allocate for it.
pub(crate) fn allocated(task: &Task, now: Timestamp) -> Option<TaskStatus> {
    (task.status.state == TaskState::New).then(|| TaskStatus {
        state: TaskState::Pending,
        since: now,
        message: "pending task scheduling".to_owned(),
        error: String::new(),
        ..task.status.clone()
    })
}
