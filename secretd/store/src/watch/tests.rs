//! A view and the changes after it are the later view: nothing is missed and nothing comes twice.

use std::sync::Arc;

use secretd_core::time::Version;

use crate::apply::tests::shown;
use crate::event::{Change, Event};
use crate::fixture::*;
use crate::op::Op;
use crate::state::{Record, RecordKey, State};
use crate::store::Store;
use crate::view::View;
use crate::watch::{Publisher, Watch};

/// Follows `view` by events alone, as a watcher does that keeps a copy of its own.
fn follow(copy: &mut State, change: &Change) {
    for event in &change.events {
        match event {
            Event::SecretCreated(new) | Event::SecretUpdated { new, .. } => {
                // Which payloads are kept is no event: a watcher takes it from the change's view.
                copy.put(change.view.state().get(RecordKey::Secret(new.id)).unwrap());
            }
            Event::SecretRemoved(old) => copy.remove(RecordKey::Secret(old.id)),
            Event::ServiceCreated(new) | Event::ServiceUpdated { new, .. } => {
                copy.put(Record::Service(Arc::clone(new)))
            }
            Event::ServiceRemoved(old) => copy.remove(RecordKey::Service(old.id)),
            Event::TaskCreated(new) | Event::TaskUpdated { new, .. } => copy.put(Record::Task(Arc::clone(new))),
            Event::TaskRemoved(old) => copy.remove(RecordKey::Task(old.id)),
            Event::NodeCreated(new) | Event::NodeUpdated { new, .. } => copy.put(Record::Node(Arc::clone(new))),
            Event::NodeRemoved(node) => copy.remove(RecordKey::Node(node.id)),
            Event::ClusterCreated(_) | Event::ClusterUpdated { .. } => {
                copy.put(change.view.state().get(RecordKey::Cluster).unwrap())
            }
        }
    }
    copy.version = change.version;
}

async fn writer(store: Store, n: u8) {
    for round in 1..=20u64 {
        store.propose(vec![create_secret(n, &format!("s{n}"), 9)]).await.unwrap();
        store.propose(vec![update_secret(n, 1, 7, n)]).await.unwrap();
        store.propose(vec![create_service(n, &format!("app{n}"), vec![grant(n, "x", None)])]).await.unwrap();
        store.propose(vec![create_task(n, n, vec![])]).await.unwrap();
        // Refused: it must leave no trace in any watch.
        store
            .propose(vec![Op::RemoveTask { id: task_id(n) }, Op::RemoveSecret { id: secret_id(n) }])
            .await
            .unwrap_err();
        if round < 20 {
            store
                .propose(vec![Op::RemoveTask { id: task_id(n) }, Op::RemoveService { id: service_id(n) }])
                .await
                .unwrap();
            store.propose(vec![Op::RemoveSecret { id: secret_id(n) }]).await.unwrap();
        }
    }
}

async fn watcher(store: Store, last: Version) -> (State, View) {
    let (view, mut watch): (View, Watch) = store.view_and_watch();
    let mut copy = view.state().clone();
    while copy.version < last {
        let change = watch.next().await.unwrap();
        assert_eq!(change.version.0, copy.version.0 + 1, "a gap or a repeat");
        assert!(!change.events.is_empty());
        follow(&mut copy, &change);
        assert_eq!(change.view.version(), change.version);
        assert_eq!(shown(&copy), shown(change.view.state()));
    }
    (copy, store.view())
}

async fn watch_many(store: Store) {
    store.propose(vec![init()]).await.unwrap();
    let last = Version(1 + 4 * (20 * 4 + 19 * 2));

    let writers: Vec<_> = (1..=4).map(|n| tokio::spawn(writer(store.clone(), n))).collect();
    let mut watchers = Vec::new();
    for _ in 0..8 {
        watchers.push(tokio::spawn(watcher(store.clone(), last)));
        tokio::task::yield_now().await; // each begins at another moment
    }
    for writer in writers {
        writer.await.unwrap();
    }

    assert_eq!(store.view().version(), last);
    for watcher in watchers {
        let (copy, view) = watcher.await.unwrap();
        assert_eq!(shown(&copy), shown(view.state()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_events_are_the_later_view_on_disk() {
    let (_guard, path) = directory();
    watch_many(open(&path).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_events_are_the_later_view_in_memory() {
    watch_many(Store::in_memory(clock()).await).await;
}

#[test]
fn watch_that_ends_says_whether_another_can_follow() {
    let publisher = Publisher::default();
    let (_, mut watch) = publisher.view_and_watch();
    publisher.replace(View::default());

    assert!(watch.try_next().is_none() && !publisher.is_closed());
    let (_, _another) = publisher.view_and_watch();
    publisher.close();
    assert!(publisher.is_closed());
}
