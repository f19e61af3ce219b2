//! A snapshot of one node, installed on another.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use secretd_core::time::Timestamp;
use secretd_proto::v1;
use secretd_proto::v1::snapshot_chunk::Chunk;
use secretd_sealing::secret::Dek;

use super::config::{Batch, Entry, LogId, Vote};
use super::log::LogStore;
use super::machine::StateMachine;
use super::shared::Shared;
use super::stream::Incoming;
use super::witness::Witness;
use crate::apply::tests::shown;
use crate::engine::{Engine, Key};
use crate::fixture::{create_secret, create_service, directory, init, payload, sealer, secret_id, update_secret};
use crate::op::{Op, Proposal, number_payloads};
use crate::record::raft::{applied_message, vote_message};
use crate::record::{Applied, decode_payload};

struct Node {
    _guard: tempfile::TempDir,
    path: camino::Utf8PathBuf,
    shared: Arc<Shared>,
    log: LogStore,
    machine: StateMachine,
}

fn open(guard: tempfile::TempDir, path: camino::Utf8PathBuf) -> Node {
    let engine = Arc::new(Engine::open(&path, sealer()).unwrap());
    let witness = Arc::new(Witness::open(&engine, 1).unwrap());
    let shared = Arc::new(Shared::new(engine, Arc::default(), witness));
    let log = LogStore::open(Arc::clone(&shared)).unwrap();
    let machine = StateMachine::open(Arc::clone(&shared)).unwrap();
    Node { _guard: guard, path, shared, log, machine }
}

fn node() -> Node {
    let (guard, path) = directory();
    open(guard, path)
}

fn reopen(node: Node) -> Node {
    let Node { _guard: guard, path, shared, log, machine } = node;
    drop((log, machine));
    shared.engine.close().unwrap();
    open(guard, path)
}

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, ops: Vec<Op>) -> Entry {
    let mut proposals = vec![Proposal { at: Timestamp(5), ops }];
    number_payloads(&mut proposals);
    Entry { log_id: log_id(index), payload: EntryPayload::Normal(Batch(Arc::new(proposals))) }
}

async fn feed(node: &mut Node, entries: Vec<Entry>) {
    node.log.blocking_append(entries.clone()).await.unwrap();
    node.machine.apply(entries).await.unwrap();
}

fn history() -> Vec<Entry> {
    vec![
        entry(1, vec![init()]),
        entry(2, vec![create_secret(1, "a", 600_000 / 2), create_secret(2, "b", 30)]),
        entry(3, vec![create_service(1, "app", vec![])]),
        entry(4, vec![update_secret(2, 1, 40, 77)]),
    ]
}

fn payload_of(node: &Node, n: u8, version: u64) -> Option<secretd_core::secret::SealedPayload> {
    let version = secretd_core::secret::SecretVersion(version);
    let at = node.shared.publisher.view().payload_ref(&secret_id(n), version)?;
    node.shared.engine.get(&Key::payload(at)).unwrap().map(|bytes| decode_payload(bytes).unwrap())
}

#[tokio::test]
async fn an_installed_snapshot_has_the_state_and_its_payloads_and_survives_a_restart() {
    let (mut leader, mut follower) = (node(), node());
    feed(&mut leader, history()).await;
    feed(&mut follower, vec![entry(1, vec![init()])]).await;
    // Of another leader, and never committed: its payloads are where the snapshot's are, and must give way.
    let other = vec![create_secret(9, "x", 9), create_secret(8, "y", 9), create_secret(7, "z", 9)];
    follower.log.blocking_append([entry(2, other)]).await.unwrap();

    let snapshot = leader.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    follower.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    let follower = reopen(follower);

    assert_eq!(shown(follower.shared.publisher.view().state()), shown(leader.shared.publisher.view().state()));
    assert_eq!(payload_of(&follower, 1, 1), Some(payload(300_000, 1)));
    assert_eq!(payload_of(&follower, 2, 2), Some(payload(40, 77)));
    assert_eq!(follower.shared.engine.count_payloads_and_entries().0, 2, "the other leader's are gone");
    let mut follower = follower;
    assert_eq!(follower.machine.applied_state().await.unwrap().0, Some(log_id(4)));
}

#[tokio::test]
async fn a_snapshot_that_comes_in_while_the_data_key_is_replaced_is_installed() {
    let mut leader = node();
    feed(&mut leader, history()).await;
    let snapshot = leader.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let header = v1::SnapshotHeader {
        to: 5,
        vote: Some(vote_message(&Vote::new_committed(1, 1))),
        applied: Some(applied_message(&Applied {
            log_id: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership.clone(),
            version: snapshot.snapshot.view.version(),
        })),
        snapshot_id: "4".to_owned(),
        standing: None,
    };
    let mut follower = node();
    let (engine, sealer) = (Arc::clone(&follower.shared.engine), follower.shared.engine.sealer());
    let old = sealer.seal(b"here", b"record").unwrap();
    let header = v1::SnapshotChunk { chunk: Some(Chunk::Header(header)) };
    let mut incoming =
        Incoming::begin(&engine.disk(), engine.directory().join("incoming"), engine.sealer(), 5, header).unwrap();
    for chunk in super::contents::chunks(&snapshot.snapshot) {
        incoming.take(chunk.unwrap()).unwrap();
    }

    sealer.begin(1, &Dek::from_bytes(&[9; 32]));
    engine.reseal().unwrap();
    sealer.forget_older();
    let (_, received) = incoming.snapshot();
    follower.machine.install_snapshot(&received.meta, received.snapshot).await.unwrap();
    drop(incoming);

    assert_eq!(shown(follower.shared.publisher.view().state()), shown(leader.shared.publisher.view().state()));
    assert_eq!(payload_of(&follower, 1, 1), Some(payload(300_000, 1)));
    assert!(sealer.open(b"here", &old).is_err(), "the old key is there still");
}

#[tokio::test]
async fn a_snapshot_keeps_its_payloads_while_it_is_in_use() {
    let mut leader = node();
    feed(&mut leader, history()).await;
    let snapshot = leader.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    feed(&mut leader, vec![entry(5, vec![Op::RemoveSecret { id: secret_id(1) }])]).await;
    feed(&mut leader, vec![entry(6, vec![])]).await; // commits what entry 5 left
    leader.log.purge(log_id(6)).await.unwrap();

    let mut follower = node();
    follower.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(payload_of(&follower, 1, 1), Some(payload(300_000, 1)));

    // Once it is replaced, its payloads go with the next purge.
    let (before, _) = leader.shared.engine.count_payloads_and_entries();
    drop(leader.machine.get_snapshot_builder().await);
    leader.log.purge(log_id(6)).await.unwrap();
    let (after, _) = leader.shared.engine.count_payloads_and_entries();
    assert!(after < before, "{before} payloads before, {after} after");
}

#[tokio::test]
async fn other_managers_are_given_entries_with_their_payloads() {
    let mut leader = node();
    feed(&mut leader, history()).await;
    let mut leader = reopen(leader);

    let mut whole = leader.log.get_log_reader().await;
    let entries = whole.limited_get_log_entries(1, 5).await.unwrap();

    assert_eq!(entries.len(), 4);
    let mut payloads = BTreeMap::new();
    for entry in &entries {
        let EntryPayload::Normal(Batch(proposals)) = &entry.payload else { panic!("{entry:?}") };
        for (_, payload) in proposals.iter().flat_map(|proposal| &proposal.ops).filter_map(Op::payload) {
            payloads.insert((entry.log_id.index, payload.slot()), payload.sealed().unwrap().as_ref().clone());
        }
    }
    let expect = [((2, 0), payload(300_000, 1)), ((2, 1), payload(30, 2)), ((4, 0), payload(40, 77))];
    assert_eq!(payloads, BTreeMap::from(expect));
}

#[tokio::test]
async fn leader_that_was_killed_does_not_begin_as_one() {
    let node = node();
    let member = super::actor::member_id(&node.shared.engine).unwrap();
    for (voted, expect) in [
        (Vote::new_committed(3, member), Vote::new(3, member)),
        (Vote::new(3, member), Vote::new(3, member)),
        (Vote::new_committed(3, member ^ 1), Vote::new_committed(3, member ^ 1)),
    ] {
        let mut log = LogStore::open(Arc::clone(&node.shared)).unwrap();
        log.save_vote(&voted).await.unwrap();

        assert_eq!(log.read_vote().await.unwrap(), Some(expect));
    }
}

#[tokio::test]
async fn what_was_applied_but_not_committed_to_disk_is_applied_again() {
    let mut leader = node();
    feed(&mut leader, history()).await;
    let view = leader.shared.publisher.view();
    let killed = leader.path.with_extension("killed");
    std::fs::create_dir_all(&killed).unwrap();
    for file in ["records.redb", "acknowledged"] {
        std::fs::copy(leader.path.join(file), killed.join(file)).unwrap();
    }

    let (guard, _) = directory();
    let mut again = open(guard, killed);
    let (applied, _) = again.machine.applied_state().await.unwrap();
    assert!(applied < Some(log_id(4)), "the state is written with the next entry");
    let next = applied.map_or(1, |log_id| log_id.index + 1);
    let rest = again.log.try_get_log_entries(next..).await.unwrap();
    again.machine.apply(rest).await.unwrap();

    assert_eq!(shown(again.shared.publisher.view().state()), shown(view.state()));
}
