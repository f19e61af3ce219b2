//! Tables of situations and plans, and the law that a converged service needs nothing.

mod nodes;

use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use secretd_core::service::FailureAction;
use secretd_core::time::Version;

use super::*;
use crate::sample::{at, node_id, service, task, task_spec};

/// A service, its tasks and nodes at second 100.
struct World {
    service: Service,
    tasks: Vec<Arc<Task>>,
    hosts: BTreeMap<NodeId, Host>,
    barred: BTreeSet<NodeId>,
    memory: Memory,
    history_limit: u32,
    now: Timestamp,
}

impl World {
    fn new(service: Service, tasks: Vec<Task>) -> Self {
        let hosts = BTreeMap::from([(node_id(1), Host::Keeps), (node_id(2), Host::Keeps)]);
        let tasks: Vec<_> = tasks.into_iter().map(Arc::new).collect();
        let memory = Memory::recall(tasks.iter());
        Self { service, tasks, hosts, barred: BTreeSet::new(), memory, history_limit: 5, now: at(100) }
    }

    fn plan(&self) -> Plan {
        let tasks: Vec<_> = self.tasks.iter().collect();
        Plan::of_service(&Situation {
            service: &self.service,
            tasks: &tasks,
            hosts: &self.hosts,
            barred: &self.barred,
            memory: &self.memory,
            history_limit: self.history_limit,
            now: self.now,
        })
    }

    fn check(&self, expected: &Expect) {
        expected.assert_eq(&show(&self.plan()));
    }
}

/// Whether there is nothing to do, now or later.
fn is_empty(plan: &Plan) -> bool {
    *plan == Plan::default()
}

fn short(id: TaskId) -> String {
    id.to_string().trim_start_matches('0').to_owned()
}

fn show(plan: &Plan) -> String {
    let mut text = String::new();
    for NewTask { slot, node, desired, is_restart } in &plan.create {
        let how = if *is_restart { " (restart)" } else { "" };
        let on = node.map(|node| format!(" on {}", node.to_string().trim_start_matches('0'))).unwrap_or_default();
        let how = format!("{how}{on}");
        writeln!(text, "create slot {slot} {desired:?}{how}").unwrap();
    }
    for (id, state) in &plan.desire {
        writeln!(text, "desire {} {state:?}", short(*id)).unwrap();
    }
    for id in &plan.orphan {
        writeln!(text, "orphan {}", short(*id)).unwrap();
    }
    for id in &plan.forget {
        writeln!(text, "forget {}", short(*id)).unwrap();
    }
    if let Some(status) = &plan.status {
        writeln!(text, "status {:?}: {}", status.state, status.message).unwrap();
    }
    if plan.roll_back {
        writeln!(text, "roll back").unwrap();
    }
    if let Some(due) = plan.wake_at {
        writeln!(text, "wake at {}", due.0 / 1_000_000_000).unwrap();
    }
    text
}

fn ended(mut task: Task, state: TaskState, second: i64) -> Task {
    task.status.state = state;
    task.status.since = at(second);
    task
}

fn slot(mut task: Task, slot: u64) -> Task {
    task.slot = slot;
    task
}

fn desired(mut task: Task, state: TaskState) -> Task {
    task.desired_state = state;
    task
}

/// `service` after its image has changed, as version 2.
fn updated(mut service: Service) -> Service {
    service.previous_spec = Some(service.spec.clone());
    service.spec.task = task_spec("app:2");
    service.spec_version = Version(2);
    service
}

fn updating(mut service: Service) -> Service {
    service.update_status = Some(UpdateStatus {
        state: UpdateState::Updating,
        started_at: at(10),
        completed_at: None,
        message: "update in progress".to_owned(),
    });
    service
}

fn tasks(service: &Service, numbers: impl IntoIterator<Item = u8>) -> Vec<Task> {
    numbers.into_iter().map(|n| task(service, n)).collect()
}

#[test]
fn new_service_gets_its_slots() {
    World::new(service(3), vec![]).check(&expect![[r#"
        create slot 1 Running
        create slot 2 Running
        create slot 3 Running
    "#]]);
}

#[test]
fn free_slots_are_filled_from_the_lowest() {
    let service = service(3);
    World::new(service.clone(), tasks(&service, [2])).check(&expect![[r#"
        create slot 1 Running
        create slot 3 Running
    "#]]);
}

#[test]
fn scaling_down_takes_what_does_not_run_then_full_nodes_then_high_slots() {
    let service = service(2);
    let mut all = tasks(&service, 1..=5);
    all[1].status.state = TaskState::Preparing;
    all[4].node_id = Some(node_id(2));
    World::new(service, all).check(&expect![[r#"
        desire 2 Remove
        desire 4 Remove
        desire 3 Remove
    "#]]);
}

#[test]
fn removed_slots_lose_their_history_too() {
    let service = service(0);
    let all =
        vec![desired(ended(task(&service, 1), TaskState::Failed, 5), TaskState::Shutdown), slot(task(&service, 2), 1)];
    World::new(service, all).check(&expect![[r#"
        desire 2 Remove
        desire 1 Remove
    "#]]);
}

#[test]
fn task_told_to_go_is_forgotten_once_it_has_ended() {
    let service = service(0);
    let all = vec![
        desired(task(&service, 1), TaskState::Remove),
        desired(ended(task(&service, 2), TaskState::Shutdown, 5), TaskState::Remove),
    ];
    World::new(service, all).check(&expect![[r#"
        forget 2
    "#]]);
}

#[test]
fn ended_task_is_followed_after_the_delay() {
    let service = service(1);
    let failed = ended(task(&service, 1), TaskState::Failed, 100);
    World::new(service.clone(), vec![failed.clone()]).check(&expect![[r#"
        create slot 1 Ready (restart)
        desire 1 Shutdown
    "#]]);

    let failed = desired(failed, TaskState::Shutdown);
    let mut next = desired(slot(ended(task(&service, 98), TaskState::Ready, 98), 1), TaskState::Ready);
    World::new(service.clone(), vec![failed.clone(), next.clone()]).check(&expect![[r#"
        wake at 103
    "#]]);

    next.meta.created_at = at(95);
    World::new(service, vec![failed, next]).check(&expect![[r#"
        desire 2q Running
    "#]]);
}

#[test]
fn restart_condition_decides() {
    for (condition, state, restarts) in [
        (RestartCondition::Any, TaskState::Complete, true),
        (RestartCondition::OnFailure, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Failed, true),
        (RestartCondition::OnFailure, TaskState::Rejected, true),
        (RestartCondition::None, TaskState::Failed, false),
    ] {
        let mut service = service(1);
        service.spec.task.restart.condition = condition;
        let plan = World::new(service.clone(), vec![ended(task(&service, 1), state, 50)]).plan();

        assert_eq!(!plan.create.is_empty(), restarts, "{condition:?} {state:?}");
        assert_eq!(plan.desire.len(), 1, "it is shown as shut down");
    }
}

#[test]
fn attempts_are_limited_within_the_window() {
    let mut service = service(1);
    service.spec.task.restart.max_attempts = 2;
    let all: Vec<_> = [80, 85, 90]
        .map(|n| desired(slot(ended(task(&service, n), TaskState::Failed, i64::from(n)), 1), TaskState::Shutdown))
        .into();
    World::new(service.clone(), all.clone()).check(&expect![[""]]);

    service.spec.task.restart.window = Duration::from_secs(12);
    World::new(service, all).check(&expect![[r#"
        create slot 1 Ready (restart)
    "#]]);
}

#[test]
fn task_refused_while_it_waits_is_followed_after_its_wait() {
    let service = service(1);
    let failed = desired(slot(ended(task(&service, 90), TaskState::Rejected, 90), 1), TaskState::Shutdown);
    let refused = desired(slot(ended(task(&service, 97), TaskState::Rejected, 97), 1), TaskState::Shutdown);
    let mut world = World::new(service, vec![failed, refused]);
    world.check(&expect![[r#"
        wake at 102
    "#]]);

    world.now = at(102);
    world.check(&expect![[r#"
        create slot 1 Ready (restart)
    "#]]);
}

#[test]
fn delay_grows_while_a_slot_keeps_failing() {
    let service = service(1);
    let wait = |restarts: u8| {
        let n_tasks = restarts + 1;
        let mut all: Vec<_> = (0..n_tasks)
            .map(|n| {
                desired(slot(ended(task(&service, 99 - restarts + n), TaskState::Failed, 99), 1), TaskState::Shutdown)
            })
            .collect();
        let newest = all.pop().unwrap();
        all.push(desired(ended(newest, TaskState::Ready, 99), TaskState::Ready));
        World::new(service.clone(), all).plan().wake_at.unwrap().0 / 1_000_000_000 - 99
    };

    assert_eq!([1, 2, 3, 4, 5, 6, 7, 8].map(wait), [5, 5, 5, 10, 20, 40, 60, 60]);
}

#[test]
fn update_replaces_one_slot_at_a_time() {
    let old = service(2);
    let all = tasks(&old, 1..=2);
    World::new(updated(old), all).check(&expect![[r#"
        create slot 1 Ready
        desire 1 Shutdown
        status Updating: update in progress
    "#]]);
}

#[test]
fn replaced_task_stops_before_the_new_one_runs() {
    let old = service(2);
    let new = updating(updated(old.clone()));
    let mut next = desired(slot(ended(task(&new, 90), TaskState::Ready, 91), 1), TaskState::Ready);
    next.meta.created_at = at(90);
    let mut all = tasks(&old, 1..=2);
    all[0].desired_state = TaskState::Shutdown;
    all.push(next);
    World::new(new.clone(), all.clone()).check(&expect![[r#"
        wake at 160
    "#]]);

    all[0].status.state = TaskState::Shutdown;
    World::new(new, all).check(&expect![[r#"
        desire 2i Running
    "#]]);
}

#[test]
fn next_slot_follows_when_the_last_one_runs_and_the_delay_is_over() {
    let old = service(2);
    let mut new = updating(updated(old.clone()));
    new.spec.update.delay = Duration::from_secs(20);
    let mut all = tasks(&old, 1..=2);
    all[0] = desired(ended(all[0].clone(), TaskState::Shutdown, 91), TaskState::Shutdown);
    all.push(slot(ended(task(&new, 90), TaskState::Running, 92), 1));
    let mut world = World::new(new, all);
    world.check(&expect![[r#"
        wake at 112
    "#]]);

    world.now = at(112);
    world.check(&expect![[r#"
        create slot 2 Ready
        desire 2 Shutdown
    "#]]);
}

#[test]
fn update_is_complete_after_the_monitoring_period() {
    let old = service(1);
    let new = updating(updated(old.clone()));
    let first = desired(ended(task(&old, 1), TaskState::Shutdown, 91), TaskState::Shutdown);
    let mut world = World::new(new.clone(), vec![first, slot(ended(task(&new, 90), TaskState::Running, 97), 1)]);
    world.check(&expect![[r#"
        wake at 102
    "#]]);

    world.now = at(102);
    world.check(&expect![[r#"
        status Completed: update completed
    "#]]);
}

#[test]
fn start_first_keeps_the_old_task_until_the_new_one_runs() {
    let old = service(1);
    let mut new = updated(old.clone());
    new.spec.update.order = UpdateOrder::StartFirst;
    World::new(new.clone(), tasks(&old, [1])).check(&expect![[r#"
        create slot 1 Running
        status Updating: update in progress
    "#]]);

    let new = updating(new);
    let next = slot(ended(task(&new, 90), TaskState::Starting, 92), 1);
    World::new(new.clone(), vec![task(&old, 1), next]).check(&expect![[""]]);

    let next = slot(ended(task(&new, 90), TaskState::Running, 92), 1);
    World::new(new, vec![task(&old, 1), next]).check(&expect![[r#"
        desire 1 Shutdown
    "#]]);
}

/// Slot 1 was updated and its new task failed at once.
fn failed_update(action: FailureAction) -> World {
    let old = service(2);
    let mut new = updating(updated(old.clone()));
    new.spec.update.failure_action = action;
    let mut all = tasks(&old, 1..=2);
    all[0] = desired(ended(all[0].clone(), TaskState::Shutdown, 91), TaskState::Shutdown);
    all.push(slot(ended(task(&new, 90), TaskState::Failed, 92), 1));
    World::new(new, all)
}

#[test]
fn failed_update_pauses_goes_on_or_rolls_back() {
    failed_update(FailureAction::Pause).check(&expect![[r#"
        create slot 1 Ready (restart)
        desire 2i Shutdown
        status Paused: update paused due to failure or early termination of task 000000000000000000000002i
    "#]]);
    failed_update(FailureAction::Rollback).check(&expect![[r#"
        create slot 1 Ready (restart)
        desire 2i Shutdown
        status RollbackStarted: update rolled back due to failure or early termination of task 000000000000000000000002i
        roll back
    "#]]);
    failed_update(FailureAction::Continue).check(&expect![[r#"
        create slot 1 Ready (restart)
        create slot 2 Ready
        desire 2i Shutdown
        desire 2 Shutdown
    "#]]);
}

#[test]
fn rollback_is_never_rolled_back() {
    let mut world = failed_update(FailureAction::Rollback);
    world.service.update_status.as_mut().unwrap().state = UpdateState::RollbackStarted;
    let status = world.plan().status.unwrap();

    assert_eq!(status.state, UpdateState::RollbackPaused);
}

#[test]
fn new_task_without_a_node_pauses_the_update() {
    let old = service(1);
    let mut new = updating(updated(old.clone()));
    new.spec.update.order = UpdateOrder::StartFirst;
    let mut next = slot(ended(task(&new, 98), TaskState::Pending, 98), 1);
    next.node_id = None;
    next.status.error = "no suitable node (insufficient resources on 1 node)".to_owned();
    let mut world = World::new(new, vec![task(&old, 1), next]);
    world.check(&expect![[r#"
        wake at 103
    "#]]);

    world.now = at(103);
    world.check(&expect![[r#"
        status Paused: update paused because task 000000000000000000000002q cannot be placed: no suitable node (insufficient resources on 1 node)
    "#]]);
}

#[test]
fn labels_and_scale_replace_nothing() {
    let old = service(1);
    let mut new = old.clone();
    new.spec.labels.insert("team".to_owned(), "a".to_owned());
    new.meta.version = Version(9);
    World::new(new, tasks(&old, [1])).check(&expect![[""]]);
}

#[test]
fn history_is_limited_for_each_slot() {
    let service = service(1);
    let mut all: Vec<_> = (10..16)
        .map(|n| desired(slot(ended(task(&service, n), TaskState::Failed, 50), 1), TaskState::Shutdown))
        .collect();
    all.push(slot(task(&service, 16), 1));
    let mut world = World::new(service, all);
    world.check(&expect![[r#"
        forget a
        forget b
    "#]]);

    world.history_limit = 0;
    assert_eq!(world.plan().forget.len(), 6);
}

#[test]
fn tasks_of_a_removed_service_are_told_to_go() {
    let service = service(2);
    let mut all: Vec<_> = tasks(&service, 1..=3).into_iter().map(Arc::new).collect();
    all[2] = Arc::new(desired(ended(task(&service, 3), TaskState::Failed, 5), TaskState::Remove));
    let all: Vec<_> = all.iter().collect();
    let plan = Plan::of_removed(&all, &BTreeMap::from([(node_id(1), Host::Keeps)]), at(100));

    expect![[r#"
        desire 1 Remove
        desire 2 Remove
        forget 3
    "#]]
    .assert_eq(&show(&plan));
}

/// What the store and a perfect node make of a plan.
fn carry_out(world: &mut World, plan: &Plan, next_id: &mut u8) {
    if let Some(status) = &plan.status {
        world.service.update_status = Some(status.clone());
    }
    let desired: BTreeMap<TaskId, TaskState> = plan.desire.iter().copied().collect();
    let mut all: Vec<Task> = world.tasks.iter().map(|task| Task::clone(task)).collect();
    for new in &plan.create {
        *next_id += 1;
        let made = Task { slot: new.slot, desired_state: new.desired, ..task(&world.service, *next_id) };
        all.push(Task { meta: secretd_core::time::Meta { created_at: world.now, ..made.meta }, ..made });
    }
    for task in &mut all {
        task.desired_state = desired.get(&task.id).copied().unwrap_or(task.desired_state);
        if !task.status.state.is_terminal() {
            let wanted = task.desired_state;
            task.status.state = if wanted <= TaskState::Running { wanted } else { TaskState::Shutdown };
            task.status.since = world.now;
        }
    }
    all.retain(|task| !plan.forget.contains(&task.id));
    world.tasks = all.into_iter().map(Arc::new).collect();
}

proptest! {
    #[test]
    fn every_world_converges_to_one_that_needs_nothing(
        replicas in 0u64..5,
        states in prop::collection::vec((1u64..6, 0usize..5, any::<bool>()), 0..8),
        parallelism in 0u64..3,
        start_first: bool,
    ) {
        let old = service(replicas);
        let mut new = updated(old.clone());
        new.spec.update.parallelism = parallelism;
        new.spec.update.order = if start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        let kinds =
            [TaskState::Pending, TaskState::Running, TaskState::Failed, TaskState::Complete, TaskState::Shutdown];
        let all = states.iter().enumerate().map(|(i, (number, kind, is_old))| {
            let of = if *is_old { &old } else { &new };
            let n = u8::try_from(i + 10).unwrap();
            let task = slot(ended(task(of, n), kinds[*kind], i64::from(n)), *number);
            if kinds[*kind] == TaskState::Shutdown { desired(task, TaskState::Shutdown) } else { task }
        });
        let mut world = World::new(new.clone(), all.collect());
        let mut next_id = 100;

        for _ in 0..60 {
            let plan = world.plan();
            if is_empty(&plan) {
                break;
            }
            carry_out(&mut world, &plan, &mut next_id);
            world.now = at(world.now.0 / 1_000_000_000 + 10);
        }

        let plan = world.plan();
        prop_assert!(is_empty(&plan), "still {}", show(&plan));
        let live: Vec<_> = world.tasks.iter().filter(|task| is_live(task)).collect();
        prop_assert_eq!(live.len() as u64, replicas);
        prop_assert!(live.iter().all(|task| task.spec == world.service.spec.task));
    }
}
