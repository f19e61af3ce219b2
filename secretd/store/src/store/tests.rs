//! The store on a real disk, as managers use it.

use std::sync::Arc;

use secretd_core::task::TaskState;
use secretd_core::time::Version;

use crate::conflict::Conflict;
use crate::engine::OpenError;
use crate::fixture::*;
use crate::op::Op;
use crate::peers::NoPeers;
use crate::proposer::ProposeError;
use crate::store::Store;

fn conflict(error: ProposeError) -> Conflict {
    let ProposeError::Conflict(conflict) = error else { panic!("{error:?}") };
    conflict
}

#[tokio::test]
async fn a_new_store_takes_nothing_before_its_cluster_is_founded() {
    let (_guard, path) = directory();
    let store = open(&path).await;

    let refused = store.propose(vec![create_secret(1, "a", 5)]).await.unwrap_err();

    assert_eq!(conflict(refused), Conflict::NotInitialized);
    assert!(store.view().cluster().is_none());
}

#[tokio::test]
async fn a_cluster_is_founded_once() {
    let (_guard, path) = directory();
    let store = open(&path).await;

    store.propose(vec![init()]).await.unwrap();
    let again = store.propose(vec![init()]).await.unwrap_err();

    assert_eq!(conflict(again), Conflict::AlreadyInitialized);
    assert!(store.view().cluster().is_some());
    assert_eq!(store.view().nodes().count(), 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    store.propose(vec![create_secret(1, "psql-pw", 500)]).await.unwrap();
    store.propose(vec![create_service(1, "app", vec![grant(1, "psql-pw", None)])]).await.unwrap();
    store.propose(vec![create_task(1, 1, vec![grant(1, "psql-pw", None)])]).await.unwrap();
    let version = store.propose(vec![Op::AssignTask { id: task_id(1), node: node_id(1) }]).await.unwrap();
    let before = store.view();
    store.shutdown().await;

    let store = open(&path).await;

    let view = store.view();
    assert_eq!(view.version(), version);
    assert_eq!(view.cluster(), before.cluster());
    assert_eq!(view.sealing_key().unwrap().expose_bytes(), before.sealing_key().unwrap().expose_bytes());
    assert_eq!(view.secret(&secret_id(1)), before.secret(&secret_id(1)));
    assert_eq!(view.service_by_name(&"app".parse().unwrap()), before.service(&service_id(1)));
    assert_eq!(view.task(&task_id(1)), before.task(&task_id(1)));
    assert_eq!(view.tasks_of_node(&node_id(1)).count(), 1);
    assert_eq!(view.task(&task_id(1)).unwrap().status.state, TaskState::Assigned);
    assert_eq!(store.payload(secret_id(1), 1).await.unwrap().as_deref(), Some(&payload(500, 1)));
    store.propose(vec![update_secret(1, 1, 7, 3)]).await.unwrap();
    assert_eq!(store.payload(secret_id(1), 2).await.unwrap().as_deref(), Some(&payload(7, 3)));
}

#[tokio::test]
async fn a_store_that_is_dropped_without_closing_opens_again() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    let (_, mut watch) = store.view_and_watch();
    store.propose(vec![create_secret(1, "a", 5)]).await.unwrap();
    drop(store);
    while watch.next().await.is_some() {} // ends when the store has closed itself

    let store = loop {
        match Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await {
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            opened => break opened.unwrap(),
        }
    };

    assert!(store.view().secret(&secret_id(1)).is_some());
}

#[tokio::test]
async fn a_refused_proposal_changes_nothing_and_harms_no_payload() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    let version = store.propose(vec![create_secret(1, "a", 100)]).await.unwrap();

    let refused = store.propose(vec![create_secret(2, "b", 5), create_secret(1, "c", 9)]).await.unwrap_err();

    assert!(matches!(conflict(refused), Conflict::IdTaken { .. }));
    assert_eq!(store.view().version(), version);
    assert!(store.view().secret(&secret_id(2)).is_none());
    assert_eq!(store.payload(secret_id(1), 1).await.unwrap().as_deref(), Some(&payload(100, 1)));
}

#[tokio::test]
async fn a_payload_of_another_length_than_said_is_refused() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    let mut op = create_secret(1, "a", 10);
    if let Op::CreateSecret { length, .. } = &mut op {
        *length = 11;
    }

    let refused = store.propose(vec![op]).await.unwrap_err();

    assert!(matches!(refused, ProposeError::PayloadLength { length: 11, ciphertext: 26, wrapped_dek: 80 }));
}

#[tokio::test]
async fn writers_at_once_are_all_served_and_share_commits() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    let start = store.view().version();

    let writers: Vec<_> = (0..100u8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.propose(vec![create_secret(n, &format!("s{n}"), 500)]).await.unwrap() })
        })
        .collect();
    let mut versions = Vec::new();
    for writer in writers {
        versions.push(writer.await.unwrap());
    }

    versions.sort_unstable();
    assert_eq!(versions, (1..=100).map(|n| Version(start.0 + n)).collect::<Vec<_>>());
    assert_eq!(store.view().secrets().count(), 100);
    for n in 0..100 {
        assert_eq!(store.payload(secret_id(n), 1).await.unwrap().as_deref(), Some(&payload(500, n)));
    }
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    let (_, mut watch) = store.view_and_watch();
    store.clone().shutdown().await;

    let refused = store.propose(vec![create_secret(1, "a", 5)]).await.unwrap_err();

    assert!(matches!(refused, ProposeError::Closed));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let (_guard, path) = directory();
    let _store = open(&path).await;

    let refused = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap_err();

    assert!(matches!(refused, OpenError::Locked { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_long_life_keeps_the_log_short_and_the_payloads_that_are_in_use() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    store.propose(vec![create_secret(1, "pinned", 9), create_secret(2, "moving", 9)]).await.unwrap();
    store.propose(vec![create_service(1, "app", vec![grant(1, "pinned", Some(1))])]).await.unwrap();
    store.propose(vec![update_secret(1, 1, 9, 77)]).await.unwrap();
    for expect in 1..=1500 {
        store.propose(vec![update_secret(2, expect, 2000, expect.to_le_bytes()[0])]).await.unwrap();
    }
    store.shutdown().await;

    let store = open(&path).await;

    assert_eq!(store.payload(secret_id(1), 1).await.unwrap().as_deref(), Some(&payload(9, 1)));
    assert_eq!(store.payload(secret_id(1), 2).await.unwrap().as_deref(), Some(&payload(9, 77)));
    assert_eq!(store.payload(secret_id(2), 1).await.unwrap(), None);
    assert_eq!(
        store.payload(secret_id(2), 1501).await.unwrap().as_deref(),
        Some(&payload(2000, 1500_u64.to_le_bytes()[0]))
    );
    store.shutdown().await;
    let engine = crate::engine::Engine::open(&path, sealer()).unwrap();
    let (payloads, entries) = engine.count_payloads_and_entries();
    assert!(entries < 800, "{entries} log entries");
    assert!(payloads < 800, "{payloads} payloads");
}

/// Whether a text is anywhere in the files below a directory.
fn on_disk(path: &camino::Utf8Path, text: &[u8]) -> bool {
    std::fs::read_dir(path).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    })
}

#[tokio::test]
async fn a_stolen_disk_shows_neither_values_nor_names() {
    let (_guard, path) = directory();
    let store = open(&path).await;
    store.propose(vec![init()]).await.unwrap();
    let mut secret = create_secret(1, "canary-secret-name", 400);
    if let Op::CreateSecret { spec, payload, .. } = &mut secret {
        spec.labels.insert("canary-label-key".to_owned(), "canary-label-value".to_owned());
        let mut ciphertext = vec![0; 416];
        ciphertext[100..114].copy_from_slice(b"canary-payload");
        *payload = secretd_core::secret::SealedPayload { ciphertext, wrapped_dek: vec![0; 80] }.into();
    }
    store.propose(vec![secret]).await.unwrap();
    let mut spec = service_spec("canary-service-name", vec![grant(1, "canary-secret-name", None)]);
    spec.task.container.env = vec!["CANARY=canary-env-value".to_owned()];
    spec.task.container.image = "canary-image".to_owned();
    store.propose(vec![Op::CreateService { id: service_id(1), spec }]).await.unwrap();
    let mut named = node(1);
    named.description.hostname = "canary-host".to_owned();
    store.propose(vec![Op::PutNode { node: named }]).await.unwrap();
    store.shutdown().await;

    assert!(on_disk(&path, b"m.sequence"), "the search finds what is in clear");
    for canary in [
        "canary-secret-name",
        "canary-label-key",
        "canary-label-value",
        "canary-payload",
        "canary-service-name",
        "canary-env-value",
        "canary-image",
        "canary-host",
    ] {
        assert!(!on_disk(&path, canary.as_bytes()), "{canary}");
    }
    assert!(!on_disk(&path, &[9; 32]), "the cluster's key");
    let store = open(&path).await;
    assert!(store.view().secret_by_name(&"canary-secret-name".parse().unwrap()).is_some());
}

#[tokio::test]
async fn a_store_without_a_cluster_opens_again_and_can_still_be_founded() {
    let (_guard, path) = directory();
    open(&path).await.shutdown().await;

    let store = open(&path).await;

    assert_eq!(store.view().version(), Version(0));
    store.propose(vec![init()]).await.unwrap();
}
