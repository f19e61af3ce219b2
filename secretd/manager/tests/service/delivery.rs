//! From a sealed secret to what a task reads.

use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1;

use crate::agent::Agent;
use crate::harness::{World, container, grant, spec};

fn with_secret(name: &str, replicas: u64, secret: &v1::Secret) -> v1::ServiceSpec {
    let mut spec = spec(name, replicas, "app:1");
    container(&mut spec).secrets.push(grant(secret, "pw"));
    spec
}

#[tokio::test(start_paused = true)]
async fn granted_secret_is_read_by_the_task() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;

    world.create_service(with_secret("db", 2, &secret)).await.unwrap();
    let tasks = world.until_running("db", 2).await;

    for task in &tasks {
        assert_eq!(agent.read(&task.id, "/run/secrets/pw"), Some(b"hunter2".to_vec()));
    }
    assert_eq!(agent.seen(|seen| seen.secrets.len()), 1, "the payload comes once for both tasks");
}

#[tokio::test(start_paused = true)]
async fn rotation_reaches_running_tasks_and_replaces_none() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"old").await;
    let mut pinned = with_secret("old", 1, &secret);
    container(&mut pinned).secrets[0].pinned_version = 1;
    world.create_service(with_secret("db", 1, &secret)).await.unwrap();
    world.create_service(pinned).await.unwrap();
    let task = world.until_running("db", 1).await.remove(0);
    let of_old = world.until_running("old", 1).await.remove(0);

    let updated = world.update_secret(&secret, 2, b"newer").await.unwrap();
    agent.until(|seen| seen.grants.values().any(|grant| grant.secret_version == 2)).await;

    assert_eq!((updated.secret_version, updated.length), (2, 5));
    assert_eq!(agent.read(&task.id, "/run/secrets/pw"), Some(b"newer".to_vec()));
    assert_eq!(agent.read(&of_old.id, "/run/secrets/pw"), Some(b"old".to_vec()));
    assert_eq!(world.until_running("db", 1).await[0].id, task.id);
}

#[tokio::test(start_paused = true)]
async fn new_key_of_secret_fs_brings_all_grants_anew() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;
    world.create_service(with_secret("db", 3, &secret)).await.unwrap();
    let tasks = world.until_running("db", 3).await;

    agent.restart_secret_fs().await;
    agent.until(|seen| seen.grants.len() == 3).await;

    for task in &tasks {
        assert_eq!(agent.read(&task.id, "/run/secrets/pw"), Some(b"hunter2".to_vec()));
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_with_secrets_wait_for_the_key_of_secret_fs() {
    let world = World::founded().await;
    let agent = Agent::connect_without_key(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;
    world.create_service(with_secret("db", 1, &secret)).await.unwrap();
    world.create_service(spec("plain", 1, "app:1")).await.unwrap();
    world.until_running("plain", 1).await;
    assert_eq!(agent.seen(|seen| seen.tasks.len()), 1);

    agent.update_key(&agent.public_key()).await;
    let task = world.until_running("db", 1).await.remove(0);

    assert_eq!(agent.read(&task.id, "/run/secrets/pw"), Some(b"hunter2".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn secret_leaves_the_node_with_its_last_task() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let secret = world.create_secret("psql-pw", b"hunter2").await;
    world.create_service(with_secret("db", 1, &secret)).await.unwrap();
    world.until_running("db", 1).await;

    let request = v1::RemoveServiceRequest { reference: "db".to_owned() };
    world.control().remove_service(request).await.unwrap();
    agent.until(|seen| seen.tasks.is_empty() && seen.grants.is_empty() && seen.secrets.is_empty()).await;

    assert_eq!(world.store.view().tasks().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn large_sets_come_in_messages_below_the_limit() {
    let world = World::founded().await;
    let mut spec = spec("many", 1, "app:1");
    for n in 0..40 {
        let secret = world.create_secret(&format!("s{n}"), &vec![n; 512_000]).await;
        container(&mut spec).secrets.push(grant(&secret, &format!("f{n}")));
    }
    world.create_service(spec).await.unwrap();

    let first = Agent::connect(&world).await;
    let task = world.until_running("many", 1).await.remove(0);
    first.vanish().await;
    let agent = Agent::connect(&world).await;
    agent.until(|seen| seen.tasks.len() == 1).await;

    assert_eq!(agent.read(&task.id, "/run/secrets/f39"), Some(vec![39; 512_000]));
    agent.seen(|seen| {
        assert!(seen.max_message < MAX_MESSAGE_LENGTH);
        assert!(seen.messages.iter().all(|(kind, _)| *kind == v1::assignments_message::Kind::Complete));
        assert!(seen.messages.len() > 2);
    });
}

#[tokio::test(start_paused = true)]
async fn task_whose_secret_does_not_open_is_rejected_and_says_why() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let id = secretd_proto::id::SecretId::random();
    let sealed = world.seal(id, 1, "another-name", b"hunter2").await;
    let request = v1::CreateSecretRequest {
        id: id.to_string(),
        spec: Some(v1::SecretSpec { name: "psql-pw".to_owned(), labels: [].into() }),
        length: 7,
        payload: Some(sealed),
    };
    let secret = world.control().create_secret(request).await.unwrap().into_inner().secret.unwrap();
    let mut spec = with_secret("db", 1, &secret);
    spec.task.as_mut().unwrap().restart.as_mut().unwrap().condition = v1::restart_policy::Condition::None.into();

    world.create_service(spec).await.unwrap();
    let is_rejected = |task: &v1::Task| crate::harness::state(task) == v1::TaskState::Rejected;
    let (_, tasks) = world.until("db", |_, tasks| tasks.iter().any(is_rejected)).await;

    let error = &tasks[0].status.as_ref().unwrap().error;
    assert!(error.starts_with("version 1 of secret psql-pw cannot be granted: "), "{error}");
}
