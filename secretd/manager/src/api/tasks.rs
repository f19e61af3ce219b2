//! Tasks: what runs, where, and what has run.

use std::sync::Arc;

use secretd_core::task::{Task, TaskState};
use secretd_proto::v1;
use secretd_store::View;

use super::{Context, nodes, services};
use crate::filter::Filters;
use crate::orchestrate::slot::is_live;
use crate::reference::{Kind, resolve};
use crate::refusal::Refusal;

pub(super) fn get_task(context: &Context, request: &v1::GetTaskRequest) -> Result<v1::GetTaskResponse, Refusal> {
    let view = context.view()?;
    Ok(v1::GetTaskResponse { task: Some(Task::clone(find(&view, &request.reference)?).into()) })
}

/// The task that a reference means: an id, `service.slot` (its newest task, one that runs before others), or a prefix
/// of an id.
pub(super) fn find<'a>(view: &'a View, reference: &str) -> Result<&'a Arc<Task>, Refusal> {
    if let Some(task) = reference.parse().ok().and_then(|id| view.task(&id)) {
        return Ok(task);
    }
    if let Some(task) = by_slot(view, reference) {
        return Ok(task);
    }
    resolve(Kind::Task, reference, view.tasks().map(|task| (task.id, "", task)))
}

fn by_slot<'a>(view: &'a View, reference: &str) -> Option<&'a Arc<Task>> {
    let (service, slot) = reference.rsplit_once('.')?;
    let slot: u64 = slot.parse().ok()?;
    let service = services::find(view, service).ok()?;
    let of_slot = view.tasks_of_service(&service.id).filter(|task| task.slot == slot);
    of_slot.max_by_key(|task| (is_running(task), is_live(task), task.meta.created_at))
}

fn is_running(task: &Task) -> bool {
    task.status.state == TaskState::Running && is_live(task)
}

pub(super) fn list_tasks(context: &Context, request: v1::ListTasksRequest) -> Result<v1::ListTasksResponse, Refusal> {
    let view = context.view()?;
    let filters = Filters::parse(request.filters, &["id", "name", "node", "service", "desired-state"])?;
    for value in filters.values("desired-state") {
        if !STATES.iter().any(|state| word(*state) == *value) {
            return Err(Refusal::invalid(format!("invalid filter 'desired-state={value}': there is no such state")));
        }
    }
    let nodes = filters.values("node").iter().map(|reference| nodes::find(&view, reference).map(|node| node.id));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let of_services =
        filters.values("service").iter().map(|reference| services::find(&view, reference).map(|of| of.id));
    let of_services = of_services.collect::<Result<Vec<_>, _>>()?;
    let chosen = view.tasks().filter(|task| {
        filters.prefix("id", &task.id.to_string())
            && filters.prefix("name", &format!("{}.{}", task.service_name, task.slot))
            && filters.exact("desired-state", &word(task.desired_state))
            && (nodes.is_empty() || task.node_id.is_some_and(|node| nodes.contains(&node)))
            && (of_services.is_empty() || of_services.contains(&task.service_id))
    });
    let mut tasks: Vec<&Arc<Task>> = chosen.collect();
    let order = |task: &Task| std::cmp::Reverse((is_live(task), task.meta.created_at, task.id));
    tasks.sort_by(|a, b| (&a.service_name, a.slot, order(a)).cmp(&(&b.service_name, b.slot, order(b))));
    Ok(v1::ListTasksResponse { tasks: tasks.into_iter().map(|task| Task::clone(task).into()).collect() })
}

const STATES: [TaskState; 14] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

fn word(state: TaskState) -> String {
    state.word().to_lowercase()
}
