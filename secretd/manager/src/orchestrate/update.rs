//! Replacing the tasks of an older specification: which slots now, and what the service's update status says.
//!
//! Everything is derived from the tasks that there are, so a manager that takes over goes on where the last one stopped.

use std::collections::BTreeMap;

use secretd_core::service::{FailureAction, Service, UpdateState, UpdateStatus};
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;

use super::memory::Memory;
use super::restart::later;
use super::slot::{Slot, ended_by_itself, has_ended, is_live, is_out_of_date};

/// What to do for an update at this moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UpdateStep {
    /// Slots whose tasks are to be replaced now.
    pub(crate) replace: Vec<u64>,
    /// The new status, when it is another one.
    pub(crate) status: Option<UpdateStatus>,
    /// Whether the service goes back to its previous specification, with that status.
    pub(crate) roll_back: bool,
    /// When to look again.
    pub(crate) wake_at: Option<Timestamp>,
}

/// The next step of a service's update.
pub(crate) fn step(service: &Service, slots: &BTreeMap<u64, Slot<'_>>, memory: &Memory, now: Timestamp) -> UpdateStep {
    let dirty: Vec<&Slot<'_>> = slots.values().filter(|slot| is_dirty(service, slot)).collect();
    let state = service.update_status.as_ref().map(|status| status.state);
    let (started, begins) = match (state, &service.update_status) {
        (Some(UpdateState::Updating | UpdateState::RollbackStarted), Some(status)) => (status.clone(), false),
        (Some(UpdateState::Paused | UpdateState::RollbackPaused), _) => return UpdateStep::default(),
        _ if dirty.is_empty() => return UpdateStep::default(),
        _ => (status_of(UpdateState::Updating, now, None, "update in progress"), true),
    };
    if !begins
        && let Some(failure) = first_failure(service, slots, &started, memory, now)
        && let Some(step) = fail(service, &started, &failure, now)
    {
        return step;
    }
    let mut step = UpdateStep { status: begins.then(|| started.clone()), ..UpdateStep::default() };
    let busy = slots.values().filter(|slot| is_busy(service, slot, now, &mut step.wake_at)).count();
    if dirty.is_empty() && busy == 0 {
        match watched_until(service, slots, now) {
            Some(due) => step.wake_at = earliest(step.wake_at, due),
            None => step.status = Some(completed(&started, now)),
        }
    } else {
        step.replace = choose(service, dirty, busy);
        step.wake_at = earliest_placement(service, slots, now, step.wake_at);
    }
    step
}

/// The earlier of two times.
pub(crate) fn earliest(a: Option<Timestamp>, b: Timestamp) -> Option<Timestamp> {
    Some(a.map_or(b, |a| a.min(b)))
}

fn is_dirty(service: &Service, slot: &Slot<'_>) -> bool {
    slot.newest().is_some_and(|task| is_out_of_date(task, service))
}

/// A slot that the update has reached: it holds a task of another specification, and its newest is of the present one.
fn is_reached(service: &Service, slot: &Slot<'_>) -> bool {
    let current = |task: &Task| !is_out_of_date(task, service);
    slot.tasks.iter().any(|task| current(task)) && slot.tasks.iter().any(|task| !current(task))
}

/// Whether a reached slot still counts against the parallelism.
fn is_busy(service: &Service, slot: &Slot<'_>, now: Timestamp, wake_at: &mut Option<Timestamp>) -> bool {
    let Some(newest) = slot.newest().filter(|task| is_live(task) && !is_out_of_date(task, service)) else {
        return false;
    };
    if !is_reached(service, slot) {
        return false;
    }
    let goes_on = service.spec.update.failure_action == FailureAction::Continue;
    if goes_on && slot.tasks.iter().any(|task| ended_by_itself(task) && !is_out_of_date(task, service)) {
        return false;
    }
    let replaced = slot.tasks.iter().all(|task| !is_out_of_date(task, service) || has_ended(task));
    if newest.status.state != TaskState::Running || !replaced {
        return true;
    }
    let due = later(newest.status.since, service.spec.update.delay);
    if due > now {
        *wake_at = earliest(*wake_at, due);
    }
    due > now
}

/// The dirty slots to replace now: those that do not run first, as many as the parallelism leaves room for.
fn choose(service: &Service, mut dirty: Vec<&Slot<'_>>, busy: usize) -> Vec<u64> {
    dirty.sort_by_key(|slot| (slot.is_running(), slot.number));
    let room = match usize::try_from(service.spec.update.parallelism) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(parallelism) => parallelism.saturating_sub(busy),
    };
    dirty.iter().take(room).map(|slot| slot.number).collect()
}

/// The first new task that ended within the monitoring period, or found no node in that time.
fn first_failure(
    service: &Service,
    slots: &BTreeMap<u64, Slot<'_>>,
    started: &UpdateStatus,
    memory: &Memory,
    now: Timestamp,
) -> Option<String> {
    let monitor = service.spec.update.monitor;
    let reached = slots.values().filter(|slot| is_reached(service, slot));
    let new = reached
        .flat_map(|slot| &slot.tasks)
        .filter(|task| task.spec_version == service.spec_version && task.meta.created_at >= started.started_at);
    new.filter_map(|task| {
        let early = memory.running_since(task.id).is_none_or(|since| task.status.since <= later(since, monitor));
        if ended_by_itself(task) && early {
            return Some(format!("due to failure or early termination of task {}", task.id));
        }
        let overdue = later(task.meta.created_at, monitor) <= now;
        (is_unplaced(task) && overdue)
            .then(|| format!("because task {} cannot be placed: {}", task.id, task.status.error))
    })
    .next()
}

fn is_unplaced(task: &Task) -> bool {
    is_live(task) && task.status.state < TaskState::Assigned && !task.status.error.is_empty()
}

/// When the first task that waits for a node counts as a failure.
fn earliest_placement(
    service: &Service,
    slots: &BTreeMap<u64, Slot<'_>>,
    now: Timestamp,
    wake_at: Option<Timestamp>,
) -> Option<Timestamp> {
    let waiting = slots.values().flat_map(|slot| &slot.tasks).filter(|task| is_unplaced(task));
    let due = waiting.map(|task| later(task.meta.created_at, service.spec.update.monitor)).filter(|due| *due > now);
    due.fold(wake_at, earliest)
}

/// What a failure leads to; `None` when the update goes on.
fn fail(service: &Service, started: &UpdateStatus, why: &str, now: Timestamp) -> Option<UpdateStep> {
    let rolling_back = started.state == UpdateState::RollbackStarted;
    let (state, word) = match service.spec.update.failure_action {
        FailureAction::Continue => return None,
        _ if rolling_back => (UpdateState::RollbackPaused, "rollback paused"),
        FailureAction::Rollback if service.previous_spec.is_some() => {
            let message = format!("update rolled back {why}");
            let status = status_of(UpdateState::RollbackStarted, now, None, &message);
            return Some(UpdateStep { roll_back: true, status: Some(status), ..UpdateStep::default() });
        }
        FailureAction::Pause | FailureAction::Rollback => (UpdateState::Paused, "update paused"),
    };
    let status = status_of(state, started.started_at, None, &format!("{word} {why}"));
    Some(UpdateStep { status: Some(status), ..UpdateStep::default() })
}

/// Until when the new tasks are watched for failure; `None` when that is over.
fn watched_until(service: &Service, slots: &BTreeMap<u64, Slot<'_>>, now: Timestamp) -> Option<Timestamp> {
    let reached = slots.values().filter(|slot| is_reached(service, slot));
    let running = reached.filter_map(Slot::newest).filter(|task| task.status.state == TaskState::Running);
    running.map(|task| later(task.status.since, service.spec.update.monitor)).max().filter(|due| *due > now)
}

fn completed(started: &UpdateStatus, now: Timestamp) -> UpdateStatus {
    let (state, message) = if started.state == UpdateState::RollbackStarted {
        (UpdateState::RollbackCompleted, "rollback completed")
    } else {
        (UpdateState::Completed, "update completed")
    };
    status_of(state, started.started_at, Some(now), message)
}

fn status_of(
    state: UpdateState,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    message: &str,
) -> UpdateStatus {
    UpdateStatus { state, started_at, completed_at, message: message.to_owned() }
}
