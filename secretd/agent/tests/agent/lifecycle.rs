//! A task's life without secrets.

use std::time::Duration;

use secretd_core::fake::runtime::Call;
use secretd_core::seam::runtime::{ContainerError, PrepareError};
use secretd_proto::shim::Phase;
use secretd_proto::v1::TaskState;

use crate::harness::{World, give_task, take_task, task, task_id};

#[tokio::test(start_paused = true)]
async fn a_task_runs_ends_and_is_forgotten() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    let running = world.manager.status(id, TaskState::Running).await.container.unwrap();
    world.runtime.exit(&id, 0, false);
    world.manager.status(id, TaskState::Complete).await;
    world.until(|world| world.runtime.calls(&id) == [Call::Prepare, Call::Start, Call::Remove]).await;

    world.manager.tell(vec![take_task(id)]);

    world.until(|world| world.runtime.calls(&id).last() == Some(&Call::Forget)).await;
    assert_eq!((running.pid, running.image_digest.as_str()), (4242, "sha256:fake"));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_wanted_ready_waits_to_be_started() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Ready))]);
    world.manager.status(id, TaskState::Ready).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.runtime.phase(&id), Some(Phase::Created));

    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);

    world.manager.status(id, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_is_rejected_and_what_cannot_be_started_has_failed() {
    let (world, made, started) = (World::started().await, task_id(1), task_id(2));
    world.runtime.fail_next_prepare(PrepareError::Image("No such image: app:1".to_owned()));
    world.manager.tell(vec![give_task(task(made, TaskState::Running))]);
    let rejected = world.manager.status(made, TaskState::Rejected).await;
    let failure = ContainerError::Node { step: "start".to_owned(), reason: "no memory".to_owned() };
    world.runtime.fail_next(Call::Start, failure);

    world.manager.tell(vec![give_task(task(started, TaskState::Running))]);

    let failed = world.manager.status(started, TaskState::Failed).await;
    assert_eq!(rejected.error, "No such image: app:1");
    assert_eq!(failed.error, "starting container failed: start: no memory");
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_and_a_lost_shim_are_failures() {
    let (world, exits, dies) = (World::started().await, task_id(1), task_id(2));
    world.manager.tell(vec![give_task(task(exits, TaskState::Running)), give_task(task(dies, TaskState::Running))]);
    world.manager.status(exits, TaskState::Running).await;
    world.manager.status(dies, TaskState::Running).await;

    world.runtime.exit(&exits, 137, true);
    world.runtime.lose_shim(&dies);

    let exited = world.manager.status(exits, TaskState::Failed).await;
    let died = world.manager.status(dies, TaskState::Failed).await;
    assert_eq!(exited.error, "task: non-zero exit (137): out of memory");
    assert_eq!((exited.container.as_ref().unwrap().exit_code, exited.container.unwrap().oom_killed), (137, true));
    assert_eq!(died.error, "the container was lost: its shim has died");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_to_end_is_stopped_and_its_exit_code_told() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;

    world.manager.tell(vec![give_task(task(id, TaskState::Shutdown))]);

    let status = world.manager.status(id, TaskState::Shutdown).await;
    assert_eq!(status.container.unwrap().exit_code, 143);
    world.until(|world| world.runtime.calls(&id).ends_with(&[Call::Stop, Call::Remove])).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_fetch_of_an_image_is_given_up_when_the_task_is_to_end() {
    let (world, id) = (World::started().await, task_id(1));
    world.runtime.delay(Call::Prepare, Duration::from_secs(300));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Preparing).await;
    let before = tokio::time::Instant::now();

    world.manager.tell(vec![give_task(task(id, TaskState::Shutdown))]);

    world.manager.status(id, TaskState::Shutdown).await;
    assert!(before.elapsed() < Duration::from_secs(2));
    world.until(|world| world.runtime.calls(&id).contains(&Call::Remove)).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_are_made_at_the_same_time() {
    let world = World::started().await;
    world.runtime.delay(Call::Prepare, Duration::from_secs(10));
    world.runtime.delay(Call::Stop, Duration::from_secs(10));
    let before = tokio::time::Instant::now();
    world.manager.tell((1..=100).map(|n| give_task(task(task_id(n), TaskState::Running))).collect());
    for n in 1..=100 {
        world.manager.status(task_id(n), TaskState::Running).await;
    }

    world.manager.tell((1..=100).map(|n| give_task(task(task_id(n), TaskState::Shutdown))).collect());

    for n in 1..=100 {
        world.manager.status(task_id(n), TaskState::Shutdown).await;
    }
    assert!(before.elapsed() < Duration::from_secs(21));
}

#[tokio::test(start_paused = true)]
async fn tasks_live_on_without_a_manager_and_a_new_session_hears_everything() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;
    world.manager.set_complete(vec![give_task(task(id, TaskState::Running))]);
    let told = world.manager.states(id).len();

    world.manager.hang_up();
    world.until_followed(2).await;

    world.until(|world| world.manager.states(id).len() > told).await;
    assert_eq!(world.manager.states(id).last(), Some(&TaskState::Running));
    assert_eq!(world.runtime.calls(&id), [Call::Prepare, Call::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_new_session_does_not_know_is_removed() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;

    world.manager.hang_up();

    world.until(|world| world.runtime.calls(&id).ends_with(&[Call::Stop, Call::Remove, Call::Forget])).await;
}

#[tokio::test(start_paused = true)]
async fn an_ended_container_stays_until_a_manager_knows_how_it_ended() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.set_complete(vec![give_task(task(id, TaskState::Running))]);
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;
    world.manager.refuse_reports(true);
    world.runtime.exit(&id, 3, false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!world.runtime.calls(&id).contains(&Call::Remove));

    world.manager.refuse_reports(false);

    let status = world.manager.status(id, TaskState::Failed).await;
    assert_eq!(status.error, "task: non-zero exit (3)");
    world.until(|world| world.runtime.calls(&id).contains(&Call::Remove)).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_removed_is_removed_later() {
    let (world, id) = (World::started().await, task_id(1));
    let busy = ContainerError::Node { step: "remove".to_owned(), reason: "busy".to_owned() };
    world.runtime.fail_next(Call::Remove, busy.clone());
    world.runtime.fail_next(Call::Remove, busy);
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;

    world.manager.tell(vec![take_task(id)]);

    world.until(|world| world.runtime.calls(&id).last() == Some(&Call::Forget)).await;
    assert_eq!(world.runtime.phase(&id), None);
}
