//! Delivery of secrets, rotation, and restarts of secret-fs.

use std::time::Duration;

use secretd_core::fake::runtime;
use secretd_core::fake::secret_mount::Call;
use secretd_core::seam::secret_mount::SecretMountError;
use secretd_proto::id::TaskId;
use secretd_proto::v1::TaskState;

use crate::harness::{KEY, World, count, give_grant, give_secret, give_task, take_task, task, task_id, with_secret};

/// The version and the key with which a task reads the one secret.
fn reads(world: &World, id: TaskId) -> Option<(u64, Vec<u8>)> {
    world.mount.published(&id).map(|secrets| (secrets.grants[0].version, secrets.grants[0].wrapped_dek.clone()))
}

async fn running(id: TaskId) -> World {
    let world = World::started().await;
    let wanted = give_task(with_secret(task(id, TaskState::Running)));
    world.manager.tell(vec![give_secret(1), give_grant(id, 1, KEY), wanted]);
    world.manager.status(id, TaskState::Running).await;
    world
}

#[tokio::test(start_paused = true)]
async fn secrets_are_there_before_the_container_and_gone_after_it() {
    let id = task_id(1);
    let world = running(id).await;
    assert_eq!(world.mount.calls(), [Call::Store, Call::Publish]);
    assert_eq!(reads(&world, id), Some((1, KEY.to_vec())));

    world.runtime.exit(&id, 0, false);

    let status = world.manager.status(id, TaskState::Complete).await;
    world.until(|world| reads(world, id).is_none()).await;
    assert_eq!(status.secret_backend, "fuse");
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_its_grants() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(with_secret(task(id, TaskState::Running)))]);
    world.manager.status(id, TaskState::Preparing).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.runtime.calls(&id), []);

    world.manager.tell(vec![give_secret(1), give_grant(id, 1, KEY)]);

    world.manager.status(id, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_version_reaches_the_running_container() {
    let id = task_id(1);
    let world = running(id).await;

    world.manager.tell(vec![give_secret(2), give_grant(id, 2, KEY)]);

    world.until(|world| reads(world, id) == Some((2, KEY.to_vec()))).await;
    assert_eq!(world.mount.calls(), [Call::Store, Call::Publish, Call::Store, Call::Update]);
    assert_eq!(world.runtime.calls(&id), [runtime::Call::Prepare, runtime::Call::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_secret_is_withdrawn_also_while_the_container_takes_its_time_to_end() {
    let (running_on, ending) = (task_id(1), task_id(2));
    let world = World::started().await;
    for id in [running_on, ending] {
        let wanted = give_task(with_secret(task(id, TaskState::Running)));
        world.manager.tell(vec![give_secret(1), give_grant(id, 1, KEY), wanted]);
        world.manager.status(id, TaskState::Running).await;
    }
    world.runtime.delay(runtime::Call::Stop, Duration::from_secs(1000));
    world.manager.tell(vec![give_task(with_secret(task(ending, TaskState::Shutdown)))]);
    world.until(|world| world.runtime.calls(&ending).contains(&runtime::Call::Stop)).await;

    // What the dispatcher says when the secret is gone: the tasks have it no more.
    world
        .manager
        .tell(vec![give_task(task(running_on, TaskState::Running)), give_task(task(ending, TaskState::Shutdown))]);

    let has_none = |world: &World, id| world.mount.published(&id).is_some_and(|secrets| secrets.grants.is_empty());
    world.until(|world| has_none(world, running_on) && has_none(world, ending)).await;
    assert_eq!(world.runtime.calls(&running_on), [runtime::Call::Prepare, runtime::Call::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_secret_fs_is_repaired_without_touching_the_container() {
    let id = task_id(1);
    let world = running(id).await;
    world.restart_secret_fs(b"second");
    world.manager.until(|heard| heard.keys.last().is_some_and(|key| key == b"second")).await;

    world.manager.tell(vec![give_grant(id, 1, b"second")]);

    world.until(|world| world.mount.calls().contains(&Call::Remount)).await;
    assert_eq!(reads(&world, id), Some((1, b"second".to_vec())));
    assert_eq!(world.runtime.calls(&id), [runtime::Call::Prepare, runtime::Call::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_nobody_serves_is_replaced_with_the_next_update() {
    let id = task_id(1);
    let world = running(id).await;
    world.mount.lose_mount(id);

    world.manager.tell(vec![give_secret(2), give_grant(id, 2, KEY)]);

    world.until(|world| world.mount.calls().ends_with(&[Call::Update, Call::Remount])).await;
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_could_not_be_replaced_is_replaced_later() {
    let id = task_id(1);
    let world = running(id).await;
    world.mount.fail_next(Call::Remount, SecretMountError::Shim("busy".to_owned()));
    world.restart_secret_fs(b"second");

    world.manager.tell(vec![give_grant(id, 1, b"second")]);

    world.until(|world| world.mount.calls().iter().filter(|call| **call == Call::Remount).count() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_rotation_while_secret_fs_is_away_is_made_up_for() {
    let id = task_id(1);
    let world = running(id).await;
    world.mount.set_down(true);
    world.manager.tell(vec![give_secret(2), give_grant(id, 2, KEY)]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(reads(&world, id), Some((1, KEY.to_vec())));

    world.mount.set_down(false);

    world.until(|world| reads(world, id) == Some((2, KEY.to_vec()))).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_of_secret_fs_delays_a_start_and_a_long_one_rejects_it() {
    let (world, short, long) = (World::started().await, task_id(1), task_id(2));
    world.mount.set_down(true);
    let give = |id| vec![give_secret(1), give_grant(id, 1, KEY), give_task(with_secret(task(id, TaskState::Running)))];
    world.manager.tell(give(short));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.mount.set_down(false);
    world.manager.status(short, TaskState::Running).await;
    world.mount.set_down(true);

    world.manager.tell(give(long));

    let status = world.manager.status(long, TaskState::Rejected).await;
    assert_eq!(status.error, "secret-fs is not running; it is being restarted");
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_handed_over_once_for_many_tasks_and_again_when_secret_fs_has_dropped_it() {
    let world = World::started().await;
    let give = |n| vec![give_grant(task_id(n), 1, KEY), give_task(with_secret(task(task_id(n), TaskState::Running)))];
    world.manager.tell([vec![give_secret(1)], give(1), give(2)].concat());
    world.manager.status(task_id(1), TaskState::Running).await;
    world.manager.status(task_id(2), TaskState::Running).await;
    let stored = |world: &World| world.mount.calls().iter().filter(|call| **call == Call::Store).count();
    let once = stored(&world);
    world.manager.tell(vec![take_task(task_id(1)), take_task(task_id(2))]);
    world.until(|world| reads(world, task_id(1)).is_none() && reads(world, task_id(2)).is_none()).await;

    world.manager.tell(give(3));

    world.manager.status(task_id(3), TaskState::Running).await;
    assert!(once <= 2, "{once}"); // two that begin at the same moment may both do it
    assert_eq!(stored(&world), once + 1);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_retracted_even_when_that_fails_at_first() {
    let id = task_id(1);
    let world = running(id).await;
    world.mount.fail_next(Call::Retract, SecretMountError::Unreachable);

    world.runtime.exit(&id, 1, false);

    world.until(|world| reads(world, id).is_none()).await;
    let calls = count(world.mount.calls().into_iter().map(|call| format!("{call:?}")));
    assert_eq!(calls["Retract"], 2);
}
