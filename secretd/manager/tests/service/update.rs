//! Replacing tasks: updates, failures, rollbacks.

use secretd_proto::v1;
use secretd_proto::v1::update_status::State;

use crate::agent::Agent;
use crate::harness::{World, container, grant, live, refused, spec};

fn update_state(service: &v1::Service) -> Option<State> {
    service.update_status.as_ref().map(v1::UpdateStatus::state)
}

fn image(task: &v1::Task) -> &str {
    &task.spec.as_ref().unwrap().container.as_ref().unwrap().image
}

async fn until_state(world: &World, state: State) -> (v1::Service, Vec<v1::Task>) {
    world.until("web", |service, _| update_state(service) == Some(state)).await
}

#[tokio::test(start_paused = true)]
async fn every_task_is_replaced_one_after_the_other() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 3, "app:1")).await.unwrap();
    let before = world.until_running("web", 3).await;

    world.update_service("web", |spec| container(spec).image = "app:2".to_owned()).await;
    let (service, tasks) = until_state(&world, State::Completed).await;

    let live = live(&tasks);
    assert_eq!(live.len(), 3);
    assert!(live.iter().all(|task| image(task) == "app:2" && before.iter().all(|old| old.id != task.id)));
    assert_eq!(service.update_status.unwrap().message, "update completed");
    assert_eq!(service.previous_spec.unwrap().task.unwrap().container.unwrap().image, "app:1");
}

#[tokio::test(start_paused = true)]
async fn labels_replace_no_task() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let before = world.until_running("web", 1).await;

    world.update_service("web", |spec| drop(spec.labels.insert("team".to_owned(), "a".to_owned()))).await;

    assert_eq!(world.until_running("web", 1).await[0].id, before[0].id);
}

#[tokio::test(start_paused = true)]
async fn removed_grant_replaces_the_task_and_frees_the_secret() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;
    let mut with_secret = spec("web", 1, "app:1");
    container(&mut with_secret).secrets.push(grant(&secret, "pw"));
    world.create_service(with_secret).await.unwrap();
    world.until_running("web", 1).await;
    let get = v1::GetSecretRequest { reference: "psql-pw".to_owned() };
    assert_eq!(world.control().get_secret(get).await.unwrap().into_inner().used_by, ["web"]);

    world.update_service("web", |spec| container(spec).secrets.clear()).await;
    until_state(&world, State::Completed).await;
    let request = v1::RemoveSecretRequest { reference: "psql-pw".to_owned(), ..Default::default() };

    assert_eq!(world.control().remove_secret(request).await.unwrap().into_inner().id, secret.id);
}

#[tokio::test(start_paused = true)]
async fn revoked_secret_leaves_every_service_at_once() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;
    let kept = world.create_secret("other", b"x").await;
    for name in ["web", "api"] {
        let mut spec = spec(name, 1, "app:1");
        container(&mut spec).secrets.extend([grant(&secret, "pw"), grant(&kept, "other")]);
        world.create_service(spec).await.unwrap();
        world.until_running(name, 1).await;
    }
    let plain = v1::RemoveSecretRequest { reference: "psql-pw".to_owned(), force: false };
    let (_, message) = refused(world.control().remove_secret(plain).await);
    assert!(message.ends_with("api, web"), "{message}");

    let force = v1::RemoveSecretRequest { reference: "psql-pw".to_owned(), force: true };
    world.control().remove_secret(force).await.unwrap();

    for name in ["web", "api"] {
        let (service, _) = world.until(name, |_, _| true).await;
        let granted = service.spec.unwrap().task.unwrap().container.unwrap().secrets;
        assert_eq!(granted.iter().map(|grant| grant.secret_name.as_str()).collect::<Vec<_>>(), ["other"]);
    }
    assert!(world.control().get_secret(v1::GetSecretRequest { reference: "psql-pw".to_owned() }).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn failing_update_pauses_and_leaves_the_other_tasks() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 3, "app:1")).await.unwrap();
    world.until_running("web", 3).await;

    world.update_service("web", |spec| container(spec).image = "bad".to_owned()).await;
    let (service, tasks) = until_state(&world, State::Paused).await;

    let message = service.update_status.unwrap().message;
    assert!(message.starts_with("update paused due to failure or early termination of task "), "{message}");
    assert_eq!(live(&tasks).iter().filter(|task| image(task) == "app:1").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn failing_update_rolls_back_when_asked_to() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let mut first = spec("web", 2, "app:1");
    first.update = Some(v1::UpdateConfig {
        parallelism: 1,
        failure_action: v1::update_config::FailureAction::Rollback.into(),
        ..v1::UpdateConfig::default()
    });
    world.create_service(first).await.unwrap();
    world.until_running("web", 2).await;

    world.update_service("web", |spec| container(spec).image = "bad".to_owned()).await;
    let (service, _) = until_state(&world, State::RollbackCompleted).await;

    assert_eq!(service.spec.unwrap().task.unwrap().container.unwrap().image, "app:1");
    assert!(world.until_running("web", 2).await.iter().all(|task| image(task) == "app:1"));
}

#[tokio::test(start_paused = true)]
async fn rollback_to_a_removed_secret_pauses_and_others_go_on() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;
    let mut first = spec("web", 2, "app:1");
    container(&mut first).secrets.push(grant(&secret, "pw"));
    first.update = Some(v1::UpdateConfig {
        parallelism: 1,
        failure_action: v1::update_config::FailureAction::Rollback.into(),
        ..v1::UpdateConfig::default()
    });
    world.create_service(first).await.unwrap();
    world.until_running("web", 2).await;
    let replace = world.update_service("web", |spec| {
        container(spec).secrets.clear();
        container(spec).image = "app:2".to_owned();
    });
    replace.await;
    let is_new = |task: &v1::Task| image(task) == "app:2" && crate::harness::is_running(task);
    let (_, tasks) = world.until("web", |_, tasks| tasks.iter().any(is_new)).await;
    let request = v1::RemoveSecretRequest { reference: "psql-pw".to_owned(), ..Default::default() };
    world.control().remove_secret(request).await.unwrap();
    let new = tasks.iter().find(|task| is_new(task)).unwrap();
    agent.report(&new.id, v1::TaskState::Failed, |_| {}).await;

    let (service, _) = until_state(&world, State::Paused).await;
    world.create_service(spec("other", 1, "app:1")).await.unwrap();
    world.until_running("other", 1).await;

    let message = service.update_status.unwrap().message;
    assert!(message.ends_with("it cannot be: secret psql-pw is not there any more"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn rollback_swaps_the_specifications() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let service = world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.until_running("web", 1).await;
    let roll_back = async |service: &v1::Service| {
        let request = v1::UpdateServiceRequest {
            id: service.id.clone(),
            version: service.meta.unwrap().version,
            spec: None,
            rollback: true,
        };
        world.control().update_service(request).await.map(|answer| answer.into_inner().service.unwrap())
    };
    assert_eq!(refused(roll_back(&service).await).1, "service web does not have a previous spec");

    world.update_service("web", |spec| container(spec).image = "app:2".to_owned()).await;
    let (service, _) = until_state(&world, State::Completed).await;
    roll_back(&service).await.unwrap();
    let (service, tasks) = until_state(&world, State::RollbackCompleted).await;

    assert_eq!(image(&live(&tasks)[0]), "app:1");
    assert_eq!(service.previous_spec.unwrap().task.unwrap().container.unwrap().image, "app:2");
}

#[tokio::test(start_paused = true)]
async fn start_first_never_leaves_a_slot_empty() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let mut first = spec("web", 1, "app:1");
    first.update = Some(v1::UpdateConfig {
        parallelism: 1,
        order: v1::update_config::Order::StartFirst.into(),
        ..v1::UpdateConfig::default()
    });
    let service = world.create_service(first).await.unwrap();
    world.until_running("web", 1).await;
    let (_, mut watch) = world.store.view_and_watch();

    world.update_service("web", |spec| container(spec).image = "app:2".to_owned()).await;
    until_state(&world, State::Completed).await;

    let id = service.id.parse().unwrap();
    while let Some(change) = watch.try_next() {
        let running = change.view.tasks_of_service(&id).filter(|task| {
            task.status.state == secretd_core::task::TaskState::Running
                && task.desired_state == secretd_core::task::TaskState::Running
        });
        assert!(running.count() >= 1, "at version {:?}", change.version);
    }
}
