//! Whether an ended task is followed by a new one in its slot, and when that one may start.

use std::time::Duration;

use secretd_core::service::{RestartCondition, Service};
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;

use super::memory::Memory;
use super::plan::Situation;
use super::slot::{Slot, ended_by_itself, is_live};

/// How long a new task waits for the old one of its slot to stop, beyond the old one's own grace period.
const STOP_MARGIN: Duration = Duration::from_mins(1);

/// Restarts within [`FAILING_WINDOW`] before delays grow.
const PATIENCE: usize = 3;
const FAILING_WINDOW: Duration = Duration::from_mins(5);
/// Growing delays end here: a container whose cause of failure is gone should not wait much longer than that.
const MAX_DELAY: Duration = Duration::from_mins(1);

/// Whether the restart policy wants a task after `ended`.
pub(crate) fn wants_restart(service: &Service, ended: &Task, memory: &Memory, now: Timestamp) -> bool {
    let policy = &service.spec.task.restart;
    let condition = match policy.condition {
        RestartCondition::Any => true,
        RestartCondition::OnFailure => ended.status.state != TaskState::Complete,
        RestartCondition::None => false,
    };
    if !condition || policy.max_attempts == 0 {
        return condition;
    }
    let counts = |at: &Timestamp| policy.window.is_zero() || later(*at, policy.window) > now;
    let attempts = memory.restarts(service.id, ended.slot, service.spec_version).filter(counts).count();
    (attempts as u64) < policy.max_attempts
}

/// When a task may follow `ended`: `Ok` when it may, else when to look again.
///
/// A task that follows another at once waits for the policy's delay with desired state READY, which gives its node the
/// time to prepare it. What ends while it so waits, because its node refuses it, is followed when its own wait is over.
pub(crate) fn may_follow(situation: &Situation<'_>, ended: &Task) -> Result<(), Timestamp> {
    let service = situation.service;
    match situation.memory.restarts(service.id, ended.slot, ended.spec_version).last() {
        Some(restarted) if ended_by_itself(ended) => {
            not_before(restarted, delay(service, ended, situation.memory), situation.now)
        }
        Some(_) | None => Ok(()),
    }
}

/// When a task that waits with desired state READY may run: `Ok` when it may, else when to look again.
///
/// It waits for the slot's other tasks to stop, and after a task that ended by itself for the policy's delay.
pub(crate) fn may_run(situation: &Situation<'_>, slot: &Slot<'_>, task: &Task) -> Result<(), Timestamp> {
    let (service, now) = (situation.service, situation.now);
    let created = task.meta.created_at;
    let stopping = slot.stopping().filter(|other| !situation.is_unreachable(other));
    if let Some(grace) = stopping.map(|other| other.spec.container.stop_grace_period).max() {
        not_before(created, grace.saturating_add(STOP_MARGIN), now)?;
    }
    let previous = slot.tasks.iter().find(|other| other.id != task.id && !is_live(other));
    match previous {
        Some(previous) if ended_by_itself(previous) && previous.spec == task.spec => {
            not_before(created, delay(service, task, situation.memory), now)
        }
        Some(_) | None => Ok(()),
    }
}

/// The policy's delay, doubled for each further restart of a slot that keeps failing. A policy with a limit of attempts has
/// its own end to that, and keeps its delay.
fn delay(service: &Service, task: &Task, memory: &Memory) -> Duration {
    let policy = &service.spec.task.restart;
    if policy.max_attempts != 0 {
        return policy.delay;
    }
    let restarts = memory.restarts(service.id, task.slot, task.spec_version);
    let recent = restarts.filter(|at| later(*at, FAILING_WINDOW) > task.meta.created_at).count();
    let doublings = u32::try_from(recent.saturating_sub(PATIENCE)).unwrap_or(u32::MAX).min(16);
    policy.delay.saturating_mul(1 << doublings).min(MAX_DELAY.max(policy.delay))
}

fn not_before(start: Timestamp, wait: Duration, now: Timestamp) -> Result<(), Timestamp> {
    let due = later(start, wait);
    // A clock that was set back must not make anybody wait longer than asked for.
    if due <= now || start > now { Ok(()) } else { Err(due) }
}

/// `wait` after `start`.
pub(crate) fn later(start: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(start.0.saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)))
}
