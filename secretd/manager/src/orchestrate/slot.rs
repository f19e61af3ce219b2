//! What is in one slot of a service: the tasks that fill it now, and those that did.

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::service::{Service, TaskSpec};
use secretd_core::task::{Task, TaskState};
use secretd_proto::id::NodeId;

/// The tasks of one slot, newest first.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) number: u64,
    pub(crate) tasks: Vec<&'a Arc<Task>>,
}

/// Whether nothing of the task runs, or will run, anywhere.
pub(crate) fn has_ended(task: &Task) -> bool {
    let never_ran = task.status.state < TaskState::Assigned && task.desired_state > TaskState::Running;
    task.status.state.is_terminal() || never_ran
}

/// Whether the cluster still wants the task to run, and it may.
pub(crate) fn is_live(task: &Task) -> bool {
    task.desired_state <= TaskState::Running && !task.status.state.is_terminal()
}

/// Whether the task ended although nobody asked it to.
pub(crate) fn ended_by_itself(task: &Task) -> bool {
    matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
}

/// Whether the task runs something else than the service wants now. Equal specifications of different versions are not
/// different: going forth and back replaces nothing.
pub(crate) fn is_out_of_date(task: &Task, service: &Service) -> bool {
    let waits_for_node = task.status.state < TaskState::Assigned;
    let differs =
        if waits_for_node { task.spec != service.spec.task } else { !runs_the_same(&task.spec, &service.spec.task) };
    task.spec_version != service.spec_version && differs
}

/// Whether two specifications differ in where tasks may run at the most.
fn runs_the_same(a: &TaskSpec, b: &TaskSpec) -> bool {
    a == b || TaskSpec { placement: b.placement.clone(), ..a.clone() } == *b
}

impl<'a> Slot<'a> {
    /// The slots of a service by number. Tasks that are to be forgotten belong to none.
    pub(crate) fn group(tasks: &[&'a Arc<Task>]) -> BTreeMap<u64, Self> {
        let mut slots: BTreeMap<u64, Self> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.desired_state < TaskState::Remove) {
            let slot = slots.entry(task.slot).or_insert_with(|| Slot { number: task.slot, tasks: Vec::new() });
            slot.tasks.push(task);
        }
        for slot in slots.values_mut() {
            // A live task is newer than any other, whatever the clock said when they were made.
            slot.tasks.sort_by_key(|task| (!is_live(task), std::cmp::Reverse((task.meta.created_at, task.id))));
        }
        slots
    }

    /// The tasks that the cluster wants to run here.
    pub(crate) fn live(&self) -> impl Iterator<Item = &'a Arc<Task>> {
        self.tasks.iter().copied().filter(|task| is_live(task))
    }

    /// The newest task, live ones first.
    pub(crate) fn newest(&self) -> Option<&'a Arc<Task>> {
        self.tasks.first().copied()
    }

    /// The node of the slot's newest task: of a global service, that of all of them.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.newest().and_then(|task| task.node_id)
    }

    /// Whether a live task runs.
    pub(crate) fn is_running(&self) -> bool {
        self.live().any(|task| task.status.state == TaskState::Running)
    }

    /// The tasks that were told to stop and still run, somewhere.
    pub(crate) fn stopping(&self) -> impl Iterator<Item = &'a Arc<Task>> {
        self.tasks.iter().copied().filter(|task| task.desired_state > TaskState::Running && !has_ended(task))
    }
}
