//! Whether a service is as it is wanted: from its tasks to a state, and what to say of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use secretd_proto::v1::restart_policy::Condition;
use secretd_proto::v1::service_spec::Mode;
use secretd_proto::v1::update_config::FailureAction;
use secretd_proto::v1::update_status::State as Update;
use secretd_proto::v1::{Service, Task, TaskSpec, TaskState};

use crate::view::task::{name, word};

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Tasks that run what is wanted.
    pub(crate) running: u64,
    /// Tasks that are wanted.
    pub(crate) wanted: u64,
    /// A line for each slot.
    pub(crate) slots: BTreeMap<u64, String>,
    /// The newest error, while not all run.
    pub(crate) trouble: Option<String>,
    pub(crate) state: State,
}

/// What to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on.
    Working,
    /// All wanted tasks run, or have ended as they may, and the others are gone.
    Converged,
    /// It is as it was before: someone asked for that, or the update failed.
    RolledBack(String),
    /// It will not get there without help.
    Stuck(String),
}

/// The progress of a service with these tasks.
pub(crate) fn progress(service: &Service, tasks: &[Task], wanted: u64) -> Progress {
    let (mut running, mut done, mut others) = (0, 0, 0);
    let mut slots = BTreeMap::new();
    let mut stuck = None;
    for task in tasks.iter().filter(|task| !is_current(service, task)) {
        others += u64::from(is_alive(task));
    }
    for slot in numbers(service, tasks) {
        let of_slot: Vec<&Task> = tasks.iter().filter(|task| task.slot == slot && is_current(service, task)).collect();
        let Some(newest) = of_slot.iter().max_by_key(|task| age(task)) else {
            slots.insert(slot, "new".to_owned());
            continue;
        };
        slots.insert(slot, describe(newest));
        let state = state(newest);
        let fails = [TaskState::Failed, TaskState::Rejected].contains(&state);
        if state == TaskState::Running && newest.desired_state() <= TaskState::Running {
            running += 1;
        } else if state == TaskState::Complete && !restarts(newest, true) {
            done += 1;
        } else if fails && (!restarts(newest, false) || attempts_are_used_up(newest, of_slot.len())) {
            stuck = stuck.or_else(|| failure(newest));
        } else if !goes_on(service) {
            // What a node rejects once it rejects again.
            let rejected = of_slot.iter().find(|task| self::state(task) == TaskState::Rejected);
            stuck = stuck.or_else(|| rejected.and_then(|task| failure(task)));
        }
    }
    let is_settled = running + done == wanted && others == 0;
    let state = match update(service) {
        (Update::Paused, message) => State::Stuck(format!("service update paused: {message}")),
        (Update::RollbackPaused, message) => State::Stuck(format!("service rollback paused: {message}")),
        (Update::RollbackStarted | Update::RollbackCompleted, message) if is_settled => State::RolledBack(message),
        _ if is_settled => State::Converged,
        _ => stuck.map_or(State::Working, State::Stuck),
    };
    let trouble = if running + done == wanted { None } else { newest_error(service, tasks) };
    Progress { running, wanted, slots, trouble, state }
}

/// The slots that are wanted. Those of a global service are known by their tasks alone.
fn numbers(service: &Service, tasks: &[Task]) -> Vec<u64> {
    match service.spec.as_ref().and_then(|spec| spec.mode) {
        Some(Mode::Global(_)) => {
            let wanted = tasks.iter().filter(|task| task.desired_state() <= TaskState::Running);
            let numbers: BTreeSet<u64> = wanted.map(|task| task.slot).collect();
            numbers.into_iter().collect()
        }
        Some(Mode::Replicated(mode)) => (1..=mode.replicas).collect(),
        None => Vec::new(),
    }
}

fn newest_error(service: &Service, tasks: &[Task]) -> Option<String> {
    let has_error = |task: &&Task| task.status.as_ref().is_some_and(|status| !status.error.is_empty());
    let troubled = tasks.iter().filter(|task| is_current(service, task)).filter(has_error);
    troubled.max_by_key(|task| age(task)).map(|task| format!("{} {}", name(task), describe(task)))
}

fn update(service: &Service) -> (Update, String) {
    service
        .update_status
        .as_ref()
        .map_or((Update::None, String::new()), |status| (status.state(), status.message.clone()))
}

/// Whether an update that is under way goes on, or back, after a failure: then a failure is no end.
fn goes_on(service: &Service) -> bool {
    let under_way = matches!(update(service).0, Update::Updating | Update::RollbackStarted);
    let action = service.spec.as_ref().and_then(|spec| spec.update).unwrap_or_default().failure_action();
    under_way && action != FailureAction::Pause
}

/// Whether the task runs what the service wants. A service that went back to an equal specification replaces nothing.
fn is_current(service: &Service, task: &Task) -> bool {
    let spec = service.spec.clone().unwrap_or_default();
    let is_wanted = match spec.mode {
        Some(Mode::Replicated(mode)) => task.slot <= mode.replicas,
        Some(Mode::Global(_)) | None => task.desired_state() <= TaskState::Running,
    };
    is_wanted && (task.spec_version == service.spec_version || runs_the_same(&task.spec, &spec.task))
}

/// Where tasks may run replaces none that is where it may be.
fn runs_the_same(a: &Option<TaskSpec>, b: &Option<TaskSpec>) -> bool {
    let without = |spec: &Option<TaskSpec>| spec.clone().map(|spec| TaskSpec { placement: None, ..spec });
    a == b || without(a) == without(b)
}

fn is_alive(task: &Task) -> bool {
    // A task that no node has taken has nothing that could end.
    (TaskState::Accepted..TaskState::Complete).contains(&state(task))
        || state(task) < TaskState::Accepted && task.desired_state() <= TaskState::Running
}

fn age(task: &Task) -> (bool, i64, i32, String) {
    let created = task.meta.and_then(|meta| meta.created_at).unwrap_or_default();
    (task.desired_state() <= TaskState::Running, created.seconds, created.nanos, task.id.clone())
}

fn state(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, |status| status.state())
}

/// Whether a slot with so many tasks of the present specification gets no more of them, although the policy has a window
/// in which attempts count: a service that waits for the window to pass does not get there soon either.
fn attempts_are_used_up(newest: &Task, tasks: usize) -> bool {
    let restart = newest.spec.clone().unwrap_or_default().restart.unwrap_or_default();
    restart.max_attempts > 0 && tasks as u64 > restart.max_attempts
}

/// Whether a task that has ended is followed by another.
fn restarts(task: &Task, well: bool) -> bool {
    let restart = task.spec.clone().unwrap_or_default().restart.unwrap_or_default();
    match restart.condition() {
        Condition::Any => true,
        Condition::OnFailure => !well,
        Condition::None => false,
    }
}

fn describe(task: &Task) -> String {
    let error = task.status.as_ref().map(|status| status.error.as_str()).unwrap_or_default();
    let word = word(state(task)).to_lowercase();
    if error.is_empty() { word } else { format!("{word}: {error}") }
}

fn failure(task: &Task) -> Option<String> {
    Some(format!("task {} {}", name(task), describe(task)))
}

#[cfg(test)]
mod tests;
