//! Tasks and their states.

use secretd_proto::v1;

use super::{WireError, known, parse, required, time_from_wire, time_to_wire};
use crate::task::{ContainerStatus, Task, TaskState, TaskStatus};
use crate::time::Version;

impl From<TaskState> for v1::TaskState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::New => Self::New,
            TaskState::Pending => Self::Pending,
            TaskState::Assigned => Self::Assigned,
            TaskState::Accepted => Self::Accepted,
            TaskState::Preparing => Self::Preparing,
            TaskState::Ready => Self::Ready,
            TaskState::Starting => Self::Starting,
            TaskState::Running => Self::Running,
            TaskState::Complete => Self::Complete,
            TaskState::Shutdown => Self::Shutdown,
            TaskState::Failed => Self::Failed,
            TaskState::Rejected => Self::Rejected,
            TaskState::Remove => Self::Remove,
            TaskState::Orphaned => Self::Orphaned,
        }
    }
}

impl From<v1::TaskState> for TaskState {
    fn from(state: v1::TaskState) -> Self {
        match state {
            v1::TaskState::New => Self::New,
            v1::TaskState::Pending => Self::Pending,
            v1::TaskState::Assigned => Self::Assigned,
            v1::TaskState::Accepted => Self::Accepted,
            v1::TaskState::Preparing => Self::Preparing,
            v1::TaskState::Ready => Self::Ready,
            v1::TaskState::Starting => Self::Starting,
            v1::TaskState::Running => Self::Running,
            v1::TaskState::Complete => Self::Complete,
            v1::TaskState::Shutdown => Self::Shutdown,
            v1::TaskState::Failed => Self::Failed,
            v1::TaskState::Rejected => Self::Rejected,
            v1::TaskState::Remove => Self::Remove,
            v1::TaskState::Orphaned => Self::Orphaned,
        }
    }
}

fn state(field: &'static str, value: i32) -> Result<TaskState, WireError> {
    Ok(known::<v1::TaskState>(field, value)?.into())
}

impl From<Task> for v1::Task {
    fn from(task: Task) -> Self {
        Self {
            id: task.id.to_string(),
            meta: Some(task.meta.into()),
            service_id: task.service_id.to_string(),
            service_name: task.service_name.into(),
            slot: task.slot,
            node_id: task.node_id.map(|node| node.to_string()).unwrap_or_default(),
            spec: Some(task.spec.into()),
            spec_version: task.spec_version.0,
            desired_state: v1::TaskState::from(task.desired_state).into(),
            status: Some(task.status.into()),
        }
    }
}

impl TryFrom<v1::Task> for Task {
    type Error = WireError;
    fn try_from(task: v1::Task) -> Result<Self, WireError> {
        Ok(Self {
            id: parse("id", &task.id)?,
            meta: required("meta", task.meta)?.into(),
            service_id: parse("service_id", &task.service_id)?,
            service_name: parse("service_name", &task.service_name)?,
            slot: task.slot,
            node_id: if task.node_id.is_empty() { None } else { Some(parse("node_id", &task.node_id)?) },
            spec: required("spec", task.spec)?.try_into()?,
            spec_version: Version(task.spec_version),
            desired_state: state("desired_state", task.desired_state)?,
            status: required("status", task.status)?.try_into()?,
        })
    }
}

impl From<TaskStatus> for v1::TaskStatus {
    fn from(status: TaskStatus) -> Self {
        Self {
            state: v1::TaskState::from(status.state).into(),
            since: Some(time_to_wire(status.since)),
            message: status.message,
            error: status.error,
            container: status.container.map(|container| v1::ContainerStatus {
                pid: container.pid,
                exit_code: container.exit_code,
                oom_killed: container.oom_killed,
                image_digest: container.image_digest,
            }),
            secret_backend: status.secret_backend,
        }
    }
}

impl TryFrom<v1::TaskStatus> for TaskStatus {
    type Error = WireError;
    fn try_from(status: v1::TaskStatus) -> Result<Self, WireError> {
        Ok(Self {
            state: state("status.state", status.state)?,
            since: time_from_wire(status.since),
            message: status.message,
            error: status.error,
            container: status.container.map(|container| ContainerStatus {
                pid: container.pid,
                exit_code: container.exit_code,
                oom_killed: container.oom_killed,
                image_digest: container.image_digest,
            }),
            secret_backend: status.secret_backend,
        })
    }
}
