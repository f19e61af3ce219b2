//! When a service counts as converged, and when it never will be.

use secretd_proto::v1::{ReplicatedMode, RestartPolicy, ServiceSpec, TaskSpec, TaskStatus, UpdateConfig, UpdateStatus};

use super::*;

fn service(replicas: u64, status: Option<(Update, FailureAction)>) -> Service {
    let action = status.map_or(FailureAction::Pause, |(_, action)| action);
    Service {
        spec: Some(ServiceSpec {
            name: "app".to_owned(),
            mode: Some(Mode::Replicated(ReplicatedMode { replicas })),
            update: Some(UpdateConfig { failure_action: action.into(), ..UpdateConfig::default() }),
            ..ServiceSpec::default()
        }),
        spec_version: 2,
        update_status: status.map(|(state, _)| UpdateStatus {
            state: state.into(),
            message: "why".to_owned(),
            ..UpdateStatus::default()
        }),
        ..Service::default()
    }
}

fn task(slot: u64, spec_version: u64, desired: TaskState, state: TaskState, condition: Condition) -> Task {
    let error = if [TaskState::Failed, TaskState::Rejected].contains(&state) { "no" } else { "" };
    Task {
        id: format!("{slot}-{spec_version}-{state:?}"),
        service_name: "app".to_owned(),
        slot,
        spec_version,
        desired_state: desired.into(),
        spec: Some(TaskSpec {
            restart: Some(RestartPolicy { condition: condition.into(), ..RestartPolicy::default() }),
            ..TaskSpec::default()
        }),
        status: Some(TaskStatus { state: state.into(), error: error.to_owned(), ..TaskStatus::default() }),
        ..Task::default()
    }
}

fn replicas(service: &Service) -> u64 {
    match service.spec.as_ref().unwrap().mode {
        Some(Mode::Replicated(mode)) => mode.replicas,
        Some(Mode::Global(_)) | None => 0,
    }
}

fn check(service: &Service, tasks: &[Task], wanted: &State) {
    assert_eq!(progress(service, tasks, replicas(service)).state, *wanted, "{tasks:#?}");
}

fn stuck(text: &str) -> State {
    State::Stuck(text.to_owned())
}

#[test]
fn converged_is_when_all_run_what_is_wanted_and_the_others_are_gone() {
    use TaskState::{Preparing, Running, Shutdown};
    let new = |slot, state| task(slot, 2, Running, state, Condition::Any);
    let old = |state| task(1, 1, Shutdown, state, Condition::Any);
    let two = service(2, None);

    check(&two, &[], &State::Working);
    check(&two, &[new(1, Running), new(2, Preparing)], &State::Working);
    check(&two, &[new(1, Running), new(2, Running)], &State::Converged);
    check(&two, &[new(1, Running), new(2, Running), old(Running)], &State::Working);
    check(&two, &[new(1, Running), new(2, Running), old(Shutdown)], &State::Converged);
    check(&two, &[new(1, Running), new(2, Running), task(3, 2, Shutdown, Running, Condition::Any)], &State::Working);
    check(&two, &[new(1, Running), task(2, 1, Running, Running, Condition::Any)], &State::Working);
    check(&service(0, None), &[], &State::Converged);
}

#[test]
fn running_tasks_are_counted_and_slots_described() {
    use TaskState::{Failed, Running};
    let tasks = [task(1, 2, Running, Running, Condition::Any), task(2, 2, Running, Failed, Condition::Any)];

    let progress = progress(&service(3, None), &tasks, 3);

    assert_eq!((progress.running, progress.wanted), (1, 3));
    assert_eq!(progress.trouble.as_deref(), Some("app.2 failed: no"));
    assert_eq!(progress.slots.into_values().collect::<Vec<_>>(), ["running", "failed: no", "new"]);
}

#[test]
fn rejected_task_is_the_end_unless_an_update_goes_on() {
    use TaskState::{Pending, Rejected, Running, Shutdown};
    let rejected = task(1, 2, Shutdown, Rejected, Condition::Any);
    let next = task(1, 2, Running, Pending, Condition::Any);

    check(&service(1, None), std::slice::from_ref(&rejected), &stuck("task app.1 rejected: no"));
    check(&service(1, None), &[rejected.clone(), next.clone()], &stuck("task app.1 rejected: no"));
    check(&service(1, Some((Update::Updating, FailureAction::Rollback))), &[rejected, next], &State::Working);
}

#[test]
fn task_that_is_not_restarted_ends_the_wait() {
    use TaskState::{Complete, Failed, Running};
    let one = service(1, None);

    check(&one, &[task(1, 2, Running, Complete, Condition::None)], &State::Converged);
    check(&one, &[task(1, 2, Running, Complete, Condition::OnFailure)], &State::Converged);
    check(&one, &[task(1, 2, Running, Complete, Condition::Any)], &State::Working);
    check(&one, &[task(1, 2, Running, Failed, Condition::None)], &stuck("task app.1 failed: no"));
    check(&one, &[task(1, 2, Running, Failed, Condition::Any)], &State::Working);
}

#[test]
fn paused_and_rolled_back_updates_are_told() {
    use TaskState::Running;
    let running = [task(1, 2, Running, Running, Condition::Any)];
    let updated = |state| service(1, Some((state, FailureAction::Rollback)));

    check(&updated(Update::Paused), &running, &stuck("service update paused: why"));
    check(&updated(Update::RollbackPaused), &running, &stuck("service rollback paused: why"));
    check(&updated(Update::RollbackStarted), &[], &State::Working);
    check(&updated(Update::RollbackStarted), &running, &State::RolledBack("why".to_owned()));
    check(&updated(Update::RollbackCompleted), &running, &State::RolledBack("why".to_owned()));
}

#[test]
fn task_that_was_never_replaced_counts_after_a_rollback() {
    let mut back = service(2, Some((Update::RollbackCompleted, FailureAction::Rollback)));
    back.spec_version = 3;
    let kept = task(1, 1, TaskState::Running, TaskState::Running, Condition::Any);
    back.spec.as_mut().unwrap().task = kept.spec.clone();
    let replaced = task(2, 3, TaskState::Running, TaskState::Running, Condition::Any);

    check(&back, &[kept, replaced], &State::RolledBack("why".to_owned()));
}
