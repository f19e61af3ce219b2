//! A replacement as tables: when it ends, what it leaves.

use secretd_core::fake::clock::FakeClock;
use secretd_core::node::{Availability, ClusterSpec, NodeCertificate, NodeDescription};
use secretd_proto::id::ClusterId;
use secretd_store::Member;

use super::*;
use crate::found::{Founder, found, new_node};

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);
const YEAR: i64 = 365 * 86_400_000_000_000;

fn id(n: u8) -> NodeId {
    NodeId::from_random([n; 16])
}

fn tokens() -> [TokenSecret; 2] {
    [TokenSecret::from_bytes([8; 16]), TokenSecret::from_bytes([9; 16])]
}

fn member(n: u8) -> MemberStatus {
    let member = Member { node: id(n), address: String::new() };
    MemberStatus { id: u64::from(n), member, voter: true, leader: n == 1, reachable: Some(true) }
}

/// A cluster of a manager (1) and two workers (2, 3), all ready, with certificates of the first root.
async fn cluster() -> Store {
    let clock = FakeClock::default();
    clock.set(NOW);
    let store = Store::in_memory(Arc::new(clock)).await;
    let cluster = ClusterId::from_random([1; 16]);
    let authority = Authority::generate(cluster, NOW).unwrap();
    let description = NodeDescription::default();
    let founder = Founder { node: id(1), address: String::new(), description, availability: Availability::Active };
    found(&store, cluster, &authority, ClusterSpec::default(), founder).await.unwrap();
    for n in 2..=3 {
        let node = new_node(id(n), String::new(), NodeDescription::default(), Availability::Active, false);
        store.propose(vec![Op::PutNode { node }]).await.unwrap();
    }
    for n in 1..=3 {
        set_state(&store, n, NodeState::Ready).await;
        renew(&store, n).await;
    }
    store
}

async fn set_state(store: &Store, n: u8, state: NodeState) {
    store.propose(vec![Op::SetNodeStatus { id: id(n), state, message: String::new() }]).await.unwrap();
}

/// The node has a certificate of the root that makes them.
async fn renew(store: &Store, n: u8) {
    let view = store.view();
    let issuer = *digest(&view.cluster().unwrap().roots[0]).as_bytes();
    let certificate = NodeCertificate { issuer, fingerprint: [n; 32], not_after: NOW };
    store.propose(vec![Op::SetNodeCertificate { id: id(n), certificate }]).await.unwrap();
}

async fn put(store: &Store, record: ClusterRecord) {
    let expect = store.view().cluster().unwrap().meta.version;
    store.propose(vec![Op::UpdateCluster { expect, record }]).await.unwrap();
}

async fn begun() -> Store {
    let store = cluster().await;
    let record = store.view().cluster_record().unwrap().clone();
    put(&store, begin(&record, None, Duration::from_secs(77), NOW).unwrap()).await;
    store
}

fn next(store: &Store, members: &[MemberStatus], is_patient: bool, now: Timestamp) -> Option<Step> {
    plan(&store.view(), members, is_patient, tokens(), now)
}

fn finish(step: Option<Step>) -> ClusterRecord {
    match step {
        Some(Step::Finish(record)) => record,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_roots_count_until_every_node_that_is_there_has_renewed() {
    let store = begun().await;
    let record = store.view().cluster_record().unwrap().clone();
    assert_eq!((record.cluster.roots.len(), record.cluster.bundle().len()), (2, 3));
    assert_eq!(record.cluster.spec.cert_expiry, Duration::from_secs(77));
    let again = begin(&record, None, Duration::from_secs(77), NOW).unwrap_err();
    assert_eq!(again.code, Code::OutOfSequence);

    for n in 1..=3 {
        assert!(next(&store, &[member(1)], true, NOW).is_none(), "before node {n}");
        renew(&store, n).await;
    }

    let over = finish(next(&store, &[member(1)], true, NOW));
    assert_eq!((&over.cluster.roots[..], over.cluster.retired.len()), (&record.cluster.roots[..1], 0));
    assert!(over.cluster.rotation.is_none() && over.cluster.bundle().len() == 1);
    assert_eq!((over.keys.worker.secret.expose(), over.keys.manager.secret.expose()), (&[8; 16][..], &[9; 16][..]));
}

#[tokio::test]
async fn node_that_is_away_holds_nothing_up_and_its_root_is_remembered_for_it() {
    let store = begun().await;
    let old = store.view().cluster().unwrap().roots[1].clone();
    renew(&store, 1).await;
    renew(&store, 2).await;
    set_state(&store, 3, NodeState::Down).await;

    put(&store, finish(next(&store, &[member(1)], true, NOW))).await;

    let retired = store.view().cluster().unwrap().retired.clone();
    assert_eq!(retired.iter().map(|retired| &retired.root).collect::<Vec<_>>(), [&old]);
    let left: Vec<NodeId> = Progress::of(&store.view()).behind.iter().map(|node| node.id).collect();
    assert_eq!(left, [id(3)]);
    assert!(next(&store, &[], true, Timestamp(NOW.0 + YEAR)).is_none(), "for a year");
    assert!(matches!(next(&store, &[], true, Timestamp(NOW.0 + YEAR + 1)), Some(Step::Forget(_))));
    renew(&store, 3).await;
    let Some(Step::Forget(record)) = next(&store, &[], true, NOW) else { panic!("it is needed no more") };
    assert!(record.cluster.retired.is_empty());
}

#[tokio::test]
async fn node_that_seems_to_be_there_is_waited_for_and_then_left_behind() {
    let store = begun().await;
    renew(&store, 1).await;

    assert!(next(&store, &[member(1)], true, NOW).is_none());
    let over = finish(next(&store, &[member(1)], false, NOW));
    assert_eq!(over.cluster.retired.len(), 1);
}

#[tokio::test]
async fn majority_of_managers_is_never_left_behind() {
    let store = begun().await;
    let members = [member(1), member(2), member(3)];
    for n in 2..=3 {
        set_state(&store, n, NodeState::Down).await;
    }
    renew(&store, 1).await;
    assert!(next(&store, &members, false, NOW).is_none(), "one of three");

    renew(&store, 2).await;
    finish(next(&store, &members, false, NOW));
}

#[tokio::test]
async fn roots_are_remembered_in_one_line_and_not_for_ever() {
    let store = cluster().await;
    set_state(&store, 3, NodeState::Down).await;
    for rotations in 1..=5 {
        let record = store.view().cluster_record().unwrap().clone();
        put(&store, begin(&record, None, Duration::from_secs(77), NOW).unwrap()).await;
        renew(&store, 1).await;
        renew(&store, 2).await;
        put(&store, finish(next(&store, &[member(1)], true, NOW))).await;
        let cluster = Arc::clone(store.view().cluster().unwrap());
        assert_eq!(cluster.retired.len(), if rotations <= MOST_REMEMBERED { rotations } else { 0 }, "{rotations}");
    }
}

#[tokio::test]
async fn clock_that_jumps_neither_ends_a_replacement_nor_makes_operators_unknown() {
    let store = begun().await;
    renew(&store, 1).await;
    for years in [-30, -1, 0, 1, 10, 200] {
        assert!(next(&store, &[member(1)], true, Timestamp(NOW.0 + years * YEAR)).is_none(), "{years} years");
    }
}
