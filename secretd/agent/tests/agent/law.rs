//! What holds whatever happens.

use std::time::Duration;

use proptest::prelude::*;
use secretd_core::fake::runtime::Call;
use secretd_core::fake::secret_mount;
use secretd_core::seam::runtime::PrepareError;
use secretd_core::seam::secret_mount::SecretMountError;
use secretd_proto::v1::TaskState;

use crate::harness::{KEY, World, give_grant, give_secret, give_task, take_task, task, task_id, with_secret};

/// Something that happens to a task.
#[derive(Debug, Clone)]
enum Event {
    Want(TaskState),
    Grant(u64),
    Exit(i32),
    LoseShim,
    FailPrepare,
    FailUpdate,
    HangUp,
    RestartSecretFs,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        prop::sample::select(vec![TaskState::Ready, TaskState::Running, TaskState::Shutdown]).prop_map(Event::Want),
        (1u64..4).prop_map(Event::Grant),
        (0..3).prop_map(Event::Exit),
        Just(Event::LoseShim),
        Just(Event::FailPrepare),
        Just(Event::FailUpdate),
        Just(Event::HangUp),
        Just(Event::RestartSecretFs),
        (0u64..20_000).prop_map(Event::Pass),
    ]
}

async fn live(events: Vec<Event>) {
    let (world, id) = (World::started().await, task_id(1));
    let (mut version, mut key, mut wanted, mut sessions) = (1, KEY.to_vec(), TaskState::Running, 1);
    let all = |version, key: &[u8], wanted| {
        vec![give_secret(version), give_grant(id, version, key), give_task(with_secret(task(id, wanted)))]
    };
    world.manager.tell(all(version, &key, wanted));
    for event in events {
        match event {
            Event::Want(state) => wanted = wanted.max(state),
            Event::Grant(more) => version += more,
            Event::Exit(code) => world.runtime.exit(&id, code, false),
            Event::LoseShim => world.runtime.lose_shim(&id),
            Event::FailPrepare => world.runtime.fail_next_prepare(PrepareError::Invalid("no".to_owned())),
            Event::FailUpdate => {
                world.mount.fail_next(secret_mount::Call::Update, SecretMountError::Shim("busy".to_owned()));
            }
            Event::HangUp => {
                world.manager.set_complete(all(version, &key, wanted));
                world.manager.hang_up();
                sessions += 1;
                world.until_followed(sessions).await;
            }
            Event::RestartSecretFs => {
                key.push(b'+');
                version += 1;
                world.restart_secret_fs(&key);
            }
            Event::Pass(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
        }
        world.manager.tell(all(version, &key, wanted));
    }
    world.manager.tell(vec![take_task(id)]);

    world.until(|world| world.runtime.calls(&id).last() == Some(&Call::Forget)).await;
    assert_eq!(world.runtime.phase(&id), None);
    assert_eq!(world.mount.published(&id), None);
    let states = world.manager.states(id);
    assert!(states.is_sorted(), "{states:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn states_never_go_back_and_nothing_is_left_in_the_end(events in prop::collection::vec(event(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(events));
    }
}
