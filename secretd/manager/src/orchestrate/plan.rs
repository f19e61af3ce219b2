//! What one service needs at this moment: the whole decision of the orchestrator, for one service, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use secretd_core::service::{RestartCondition, Service, ServiceMode, UpdateOrder, UpdateState, UpdateStatus};
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, TaskId};

use super::cover::{Cover, cover};
use super::memory::Memory;
use super::reap::{Updating, beyond_history, forgettable};
use super::restart::{later, may_follow, may_run, wants_restart};
use super::scale::{free_numbers, to_close};
use super::slot::{Slot, ended_by_itself, has_ended, is_live};
use super::update::{UpdateStep, earliest, step};

/// How long a node may be down before its tasks count as lost.
const ORPHAN_AFTER: Duration = Duration::from_hours(24);

/// What the plan is made from.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) service: &'a Service,
    pub(crate) tasks: &'a [&'a Arc<Task>],
    pub(crate) hosts: &'a BTreeMap<NodeId, Host>,
    /// Nodes that the service's constraints do not allow.
    pub(crate) barred: &'a BTreeSet<NodeId>,
    pub(crate) memory: &'a Memory,
    pub(crate) history_limit: u32,
    pub(crate) now: Timestamp,
}

/// Whether a node keeps the tasks that it has. A node that is not recorded is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// It does, and takes more.
    Keeps,
    /// It does, and takes no more.
    Pauses,
    /// It is to give them away.
    Drains,
    /// It cannot be reached.
    Down {
        /// Since when.
        since: Timestamp,
    },
}

/// What to do for a service.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// New tasks of the present specification.
    pub(crate) create: Vec<NewTask>,
    /// New desired states.
    pub(crate) desire: Vec<(TaskId, TaskState)>,
    /// Tasks whose node is lost.
    pub(crate) orphan: Vec<TaskId>,
    /// Tasks to forget.
    pub(crate) forget: Vec<TaskId>,
    /// The new update status, when it is another one.
    pub(crate) status: Option<UpdateStatus>,
    /// Whether the specification goes back to the previous one.
    pub(crate) roll_back: bool,
    /// When to plan again although nothing has changed.
    pub(crate) wake_at: Option<Timestamp>,
}

/// A task to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NewTask {
    pub(crate) slot: u64,
    /// The only node that it can be on, for a global service.
    pub(crate) node: Option<NodeId>,
    pub(crate) desired: TaskState,
    /// Whether it counts as a restart of its slot.
    pub(crate) is_restart: bool,
}

impl Situation<'_> {
    /// Whether the task's node keeps no tasks.
    fn is_lost(&self, task: &Task) -> bool {
        task.node_id.as_ref().is_some_and(|node| match self.hosts.get(node) {
            Some(Host::Keeps) => self.barred.contains(node),
            Some(Host::Pauses) => false,
            Some(Host::Drains | Host::Down { .. }) | None => true,
        })
    }

    fn new_task(&self, slot: &Slot<'_>, desired: TaskState, is_restart: bool) -> NewTask {
        let node = match self.service.spec.mode {
            ServiceMode::Global => slot.node(),
            ServiceMode::Replicated { .. } => None,
        };
        NewTask { slot: slot.number, node, desired, is_restart }
    }

    /// Whether nobody can say if the task still runs.
    pub(crate) fn is_unreachable(&self, task: &Task) -> bool {
        let host = task.node_id.as_ref().map(|node| self.hosts.get(node));
        matches!(host, Some(None | Some(Host::Down { .. })))
    }
}

impl Plan {
    fn wake(&mut self, due: Timestamp) {
        self.wake_at = earliest(self.wake_at, due);
    }

    /// The plan of a service.
    pub(crate) fn of_service(situation: &Situation<'_>) -> Self {
        let mut plan = Self::default();
        plan.forget.extend(forgettable(situation.tasks));
        plan.give_up_lost(situation.tasks, situation.hosts, situation.now);

        let mut slots = Slot::group(situation.tasks);
        match situation.service.spec.mode {
            ServiceMode::Replicated { replicas } => plan.scale(replicas, &mut slots),
            ServiceMode::Global => plan.cover(situation, &mut slots),
        }
        let update = step(situation.service, &slots, situation.memory, situation.now);
        plan.status = update.status.clone();
        plan.roll_back = update.roll_back;
        if let Some(due) = update.wake_at {
            plan.wake(due);
        }
        let replace: BTreeSet<u64> = update.replace.iter().copied().collect();
        let updating = updating(situation.service, &update);
        for slot in slots.values() {
            plan.keep_slot(situation, slot, replace.contains(&slot.number));
            plan.forget.extend(beyond_history(slot, situation.history_limit, updating));
        }
        plan
    }

    /// The plan of what a removed service has left.
    pub(crate) fn of_removed(tasks: &[&Arc<Task>], hosts: &BTreeMap<NodeId, Host>, now: Timestamp) -> Self {
        let mut plan = Self::default();
        let unwanted = tasks.iter().filter(|task| task.desired_state < TaskState::Remove);
        plan.desire.extend(unwanted.map(|task| (task.id, TaskState::Remove)));
        plan.forget.extend(forgettable(tasks));
        plan.give_up_lost(tasks, hosts, now);
        plan
    }

    fn give_up_lost(&mut self, tasks: &[&Arc<Task>], hosts: &BTreeMap<NodeId, Host>, now: Timestamp) {
        for task in tasks.iter().filter(|task| !has_ended(task)) {
            let Some(node) = &task.node_id else { continue };
            match hosts.get(node) {
                None => self.orphan.push(task.id),
                Some(Host::Down { since }) => match later(*since, ORPHAN_AFTER) {
                    due if due <= now => self.orphan.push(task.id),
                    due => self.wake(due),
                },
                Some(Host::Keeps | Host::Pauses | Host::Drains) => {}
            }
        }
    }

    fn cover(&mut self, situation: &Situation<'_>, slots: &mut BTreeMap<u64, Slot<'_>>) {
        let Cover { open, close, leave } = cover(slots, situation.hosts, situation.barred);
        let desired = TaskState::Running;
        let new = |(slot, node)| NewTask { slot, node: Some(node), desired, is_restart: false };
        self.create.extend(open.into_iter().map(new));
        close.into_iter().for_each(|number| self.close(slots, number));
        for number in leave {
            slots.remove(&number);
        }
    }

    fn close(&mut self, slots: &mut BTreeMap<u64, Slot<'_>>, number: u64) {
        let closed = slots.remove(&number);
        self.desire.extend(closed.iter().flat_map(|slot| &slot.tasks).map(|task| (task.id, TaskState::Remove)));
    }

    fn scale(&mut self, replicas: u64, slots: &mut BTreeMap<u64, Slot<'_>>) {
        let have = slots.len() as u64;
        let opened = free_numbers(slots, replicas.saturating_sub(have));
        let desired = TaskState::Running;
        let new = |slot| NewTask { slot, node: None, desired, is_restart: false };
        self.create.extend(opened.into_iter().map(new));
        for number in to_close(slots, have.saturating_sub(replicas)) {
            self.close(slots, number);
        }
    }

    fn keep_slot(&mut self, situation: &Situation<'_>, slot: &Slot<'_>, replace: bool) {
        for ended in slot.tasks.iter().filter(|task| task.desired_state <= TaskState::Running && !is_live(task)) {
            self.desire.push((ended.id, TaskState::Shutdown));
        }
        let (lost, kept): (Vec<_>, Vec<_>) = slot.live().partition(|task| situation.is_lost(task));
        self.desire.extend(lost.iter().map(|task| (task.id, TaskState::Shutdown)));
        match (kept.as_slice(), replace) {
            ([], _) if lost.is_empty() => self.follow(situation, slot, replace),
            ([], _) => self.move_away(situation, slot, &lost),
            (kept, true) => self.replace(situation, slot, kept),
            ([newest, older @ ..], false) => self.settle(situation, slot, newest, older),
        }
    }

    /// After the slot's task has ended.
    fn follow(&mut self, situation: &Situation<'_>, slot: &Slot<'_>, replace: bool) {
        let Some(newest) = slot.newest() else { return };
        let is_restart = ended_by_itself(newest) && newest.spec_version == situation.service.spec_version;
        if (is_restart || !replace) && !wants_restart(situation.service, newest, situation.memory, situation.now) {
            return;
        }
        if is_restart && let Err(due) = may_follow(situation, newest) {
            self.wake(due);
            return;
        }
        let delayed = ended_by_itself(newest) && !situation.service.spec.task.restart.delay.is_zero();
        let waits = delayed || slot.stopping().any(|task| !situation.is_unreachable(task));
        let desired = if waits { TaskState::Ready } else { TaskState::Running };
        self.create.push(situation.new_task(slot, desired, is_restart));
    }

    /// From a node that keeps no tasks to another, without delay.
    fn move_away(&mut self, situation: &Situation<'_>, slot: &Slot<'_>, lost: &[&Arc<Task>]) {
        if situation.service.spec.task.restart.condition != RestartCondition::None {
            let waits = lost.iter().any(|task| !situation.is_unreachable(task));
            let desired = if waits { TaskState::Ready } else { TaskState::Running };
            self.create.push(situation.new_task(slot, desired, false));
        }
    }

    /// With a task of the present specification.
    fn replace(&mut self, situation: &Situation<'_>, slot: &Slot<'_>, live: &[&Arc<Task>]) {
        let service = situation.service;
        let failed = slot.tasks.iter().find(|task| task.spec_version == service.spec_version && ended_by_itself(task));
        if let Some(failed) = failed {
            if !wants_restart(service, failed, situation.memory, situation.now) {
                return;
            }
            if let Err(due) = may_follow(situation, failed) {
                self.wake(due);
                return;
            }
        }
        let stop_first = service.spec.update.order == UpdateOrder::StopFirst;
        if stop_first {
            self.desire.extend(live.iter().map(|task| (task.id, TaskState::Shutdown)));
        }
        let nothing_runs = live.iter().all(|task| task.status.state < TaskState::Assigned);
        let waits = failed.is_some() || (stop_first && !nothing_runs);
        let desired = if waits { TaskState::Ready } else { TaskState::Running };
        self.create.push(situation.new_task(slot, desired, failed.is_some()));
    }

    /// Lets the newest task run when it may, and stops those before it when it does.
    fn settle(&mut self, situation: &Situation<'_>, slot: &Slot<'_>, newest: &Arc<Task>, older: &[&Arc<Task>]) {
        for task in older {
            if newest.status.state == TaskState::Running || task.status.state < TaskState::Running {
                self.desire.push((task.id, TaskState::Shutdown));
            }
        }
        if newest.desired_state < TaskState::Running {
            match may_run(situation, slot, newest) {
                Ok(()) => self.desire.push((newest.id, TaskState::Running)),
                Err(due) => self.wake(due),
            }
        }
    }
}

fn updating(service: &Service, update: &UpdateStep) -> Updating {
    let status = update.status.as_ref().or(service.update_status.as_ref());
    match status.map(|status| status.state) {
        Some(
            UpdateState::Updating | UpdateState::Paused | UpdateState::RollbackStarted | UpdateState::RollbackPaused,
        ) => Updating::Yes,
        Some(UpdateState::Completed | UpdateState::RollbackCompleted) | None => Updating::No,
    }
}

#[cfg(test)]
mod tests;
