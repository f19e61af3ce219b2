//! Which ended tasks are forgotten: history is kept to a number of tasks for each slot, those that run included.

use std::sync::Arc;

use secretd_core::task::{Task, TaskState};
use secretd_proto::id::TaskId;

use super::slot::{Slot, has_ended, is_live};

/// The tasks of a slot that history has no place for, oldest first.
///
/// While a new task of the slot waits, the task before it stays: the wait is measured against it. Tasks of an older
/// specification stay while `updating`: they tell which slots the update has reached.
pub(crate) fn beyond_history(slot: &Slot<'_>, limit: u32, updating: Updating) -> Vec<TaskId> {
    let live = slot.tasks.iter().filter(|task| !has_ended(task)).count();
    let waits = slot.live().any(|task| task.desired_state < TaskState::Running);
    let keep = (limit as usize).saturating_sub(live).max(usize::from(waits));
    let newest_version = slot.newest().map(|task| task.spec_version);
    let ended = slot.tasks.iter().filter(|task| has_ended(task));
    let beyond = ended.skip(keep).filter(|task| match updating {
        Updating::Yes => Some(task.spec_version) == newest_version,
        Updating::No => true,
    });
    let mut beyond: Vec<TaskId> = beyond.map(|task| task.id).collect();
    // An ended task without a successor says that its slot is done: it stays even without history.
    if live == 0 && beyond.len() == slot.tasks.len() {
        beyond.retain(|id| slot.newest().is_none_or(|newest| newest.id != *id));
    }
    beyond.reverse();
    beyond
}

/// Whether tasks of the service are being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Updating {
    /// They are.
    Yes,
    /// They are not.
    No,
}

/// The tasks that were told to be forgotten and have ended.
pub(crate) fn forgettable<'a>(tasks: &'a [&'a Arc<Task>]) -> impl Iterator<Item = TaskId> + 'a {
    let told = tasks.iter().filter(|task| task.desired_state == TaskState::Remove && !is_live(task));
    told.filter(|task| has_ended(task)).map(|task| task.id)
}
