//! What the orchestrator remembers beside the store: restarts, because history is limited, and since when tasks ran,
//! because an ended task's status no longer tells. Lost with the process, and then rebuilt from what the store has.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use secretd_core::task::{Task, TaskState};
use secretd_core::time::{Timestamp, Version};
use secretd_proto::id::{ServiceId, TaskId};

/// Times kept for each slot: more than any sensible limit of attempts.
const MAX_RESTARTS_KEPT: usize = 1024;

/// Restarts and running times.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    restarts: HashMap<(ServiceId, u64), Restarts>,
    running_since: HashMap<TaskId, Timestamp>,
}

#[derive(Debug, Default)]
struct Restarts {
    spec_version: Version,
    at: VecDeque<Timestamp>,
}

impl Memory {
    /// What can be known from the tasks that the store has: each task beyond the first of a slot and a specification
    /// was a restart.
    pub(crate) fn recall<'a>(tasks: impl Iterator<Item = &'a Arc<Task>>) -> Self {
        let mut memory = Self::default();
        let mut tasks: Vec<_> = tasks.collect();
        tasks.sort_by_key(|task| task.meta.created_at);
        for task in tasks {
            let restarts = memory.restarts.entry((task.service_id, task.slot)).or_default();
            if restarts.spec_version == task.spec_version {
                restarts.push(task.meta.created_at);
            } else {
                *restarts = Restarts { spec_version: task.spec_version, at: VecDeque::new() };
            }
            memory.observe(task);
        }
        memory
    }

    /// Takes note of a task's status.
    pub(crate) fn observe(&mut self, task: &Task) {
        if task.status.state == TaskState::Running {
            self.running_since.entry(task.id).or_insert(task.status.since);
        }
    }

    /// Takes note of a restart.
    pub(crate) fn restarted(&mut self, service: ServiceId, slot: u64, spec_version: Version, at: Timestamp) {
        let restarts = self.restarts.entry((service, slot)).or_default();
        if restarts.spec_version != spec_version {
            *restarts = Restarts { spec_version, at: VecDeque::new() };
        }
        restarts.push(at);
    }

    /// Forgets a removed task.
    pub(crate) fn forget_task(&mut self, task: TaskId) {
        self.running_since.remove(&task);
    }

    /// Forgets a removed service.
    pub(crate) fn forget_service(&mut self, service: ServiceId) {
        self.restarts.retain(|(of, _), _| *of != service);
    }

    /// When this slot was restarted with this specification, oldest first.
    pub(crate) fn restarts(
        &self,
        service: ServiceId,
        slot: u64,
        spec_version: Version,
    ) -> impl Iterator<Item = Timestamp> {
        let restarts = self.restarts.get(&(service, slot)).filter(|restarts| restarts.spec_version == spec_version);
        restarts.into_iter().flat_map(|restarts| restarts.at.iter().copied())
    }

    /// Since when a task ran, if it was seen to.
    pub(crate) fn running_since(&self, task: TaskId) -> Option<Timestamp> {
        self.running_since.get(&task).copied()
    }
}

impl Restarts {
    fn push(&mut self, at: Timestamp) {
        if self.at.len() == MAX_RESTARTS_KEPT {
            self.at.pop_front();
        }
        self.at.push_back(at);
    }
}
