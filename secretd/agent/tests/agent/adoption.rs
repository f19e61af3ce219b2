//! What a restarted agent does with what it finds.

use prost_types::Timestamp;
use secretd_core::fake::runtime::Call;
use secretd_core::fake::secret_mount;
use secretd_proto::shim::{Exit, Phase};
use secretd_proto::v1::TaskState;

use crate::harness::{KEY, World, give_grant, give_secret, give_task, known_as, task, task_id, with_secret};

#[tokio::test(start_paused = true)]
async fn a_running_container_is_adopted_and_notices_nothing() {
    let (mut world, id) = (World::started().await, task_id(1));
    let wanted = with_secret(task(id, TaskState::Running));
    world.manager.tell(vec![give_secret(1), give_grant(id, 1, KEY), give_task(wanted.clone())]);
    world.manager.status(id, TaskState::Running).await;
    let wanted = known_as(wanted, TaskState::Running);
    world.manager.set_complete(vec![give_secret(1), give_grant(id, 1, KEY), give_task(wanted)]);

    world.start().await;
    world.until_followed(2).await;

    world.until(|world| world.mount.calls().contains(&secret_mount::Call::Update)).await;
    assert_eq!(world.runtime.calls(&id), [Call::Prepare, Call::Start]);
    assert!(!world.mount.calls().contains(&secret_mount::Call::Remount));
    world.runtime.exit(&id, 0, false);
    world.manager.status(id, TaskState::Complete).await;
}

#[tokio::test(start_paused = true)]
async fn an_adopted_container_has_run_since_it_was_started() {
    let (mut world, id) = (World::new(), task_id(1));
    world.runtime.put(id, Some(Phase::Running));
    let mut wanted = known_as(task(id, TaskState::Running), TaskState::Running);
    let since = Some(Timestamp { seconds: 1000, nanos: 7 });
    wanted.status.as_mut().unwrap().since = since;
    world.manager.set_complete(vec![give_task(wanted)]);

    world.start().await;

    assert_eq!(world.manager.status(id, TaskState::Running).await.since, since);
}

#[tokio::test(start_paused = true)]
async fn a_prepared_container_is_started_and_a_half_made_one_is_made_again() {
    let (mut world, prepared, half) = (World::new(), task_id(1), task_id(2));
    world.runtime.put(prepared, Some(Phase::Created));
    world.runtime.put(half, Some(Phase::Creating));
    let tasks = [prepared, half].map(|id| give_task(known_as(task(id, TaskState::Running), TaskState::Preparing)));
    world.manager.set_complete(tasks.to_vec());

    world.start().await;

    world.manager.status(prepared, TaskState::Running).await;
    world.manager.status(half, TaskState::Running).await;
    assert_eq!(world.runtime.calls(&prepared), [Call::Start]);
    assert_eq!(world.runtime.calls(&half), [Call::Remove, Call::Prepare, Call::Start]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_saw_is_told_and_what_is_lost_has_failed() {
    let (mut world, ended, remains, gone) = (World::new(), task_id(1), task_id(2), task_id(3));
    world.runtime.put(ended, Some(Phase::Exited(Exit { code: 0, oom_killed: false, at_unix_nanos: 0 })));
    world.runtime.put(remains, None);
    let tasks = [ended, remains, gone].map(|id| give_task(known_as(task(id, TaskState::Running), TaskState::Running)));
    world.manager.set_complete(tasks.to_vec());

    world.start().await;

    world.manager.status(ended, TaskState::Complete).await;
    assert!(world.manager.status(remains, TaskState::Failed).await.error.contains("shim has died"));
    assert!(world.manager.status(gone, TaskState::Failed).await.error.contains("node been restarted"));
    world.until(|world| world.runtime.calls(&remains) == [Call::Remove]).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_of_nobody_is_removed() {
    let (mut world, id) = (World::new(), task_id(1));
    world.runtime.put(id, Some(Phase::Running));

    world.start().await;

    world.until(|world| world.runtime.calls(&id) == [Call::Remove, Call::Forget]).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_ended_is_cleaned_up_and_not_told_of() {
    let (mut world, id) = (World::new(), task_id(1));
    world.runtime.put(id, Some(Phase::Running));
    world.manager.set_complete(vec![give_task(known_as(task(id, TaskState::Running), TaskState::Orphaned))]);

    world.start().await;

    world.until(|world| world.runtime.calls(&id) == [Call::Remove]).await;
    assert_eq!(world.manager.states(id), []);
}
