//! The feed against a store that changes between the decision what to tell and the telling.

use std::sync::Arc;

use secretd_core::node::ClusterSpec;
use secretd_core::seam::clock::SystemClock;
use secretd_core::secret::{SecretSpec, SecretVersion};
use secretd_core::task::TaskState;
use secretd_proto::id::ClusterId;
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::payload::seal;
use secretd_sealing::secret::{KeyBytes, SecretBytes};
use secretd_store::{ClusterRecord, Founding};

use super::*;
use crate::sample::{grant, node, secret_id, service, service_spec, task};

/// A store with a cluster, a node with a key, and a secret.
struct World {
    store: Store,
    cluster: ClusterId,
    key: Arc<PrivateKey>,
    node: NodeId,
}

impl World {
    async fn new() -> Self {
        let store = Store::in_memory(Arc::new(SystemClock)).await;
        let (cluster, key) = (ClusterId::random(), Arc::new(PrivateKey::generate().unwrap()));
        let mut node = node(1);
        node.description.secrets.public_key = PrivateKey::generate().unwrap().public().to_bytes().to_vec();
        let world = Self { store, cluster, key: Arc::clone(&key), node: node.id };
        let payload = world.seal(1);
        let bytes = || KeyBytes::new(vec![0; 16]);
        let sealing = PrivateKey::from_bytes(&key.expose_bytes());
        let founding = Founding { sealing, root: vec![], authority: bytes(), worker: bytes(), manager: bytes() };
        let record = ClusterRecord::new(cluster, ClusterSpec::default(), founding);
        let spec = SecretSpec { name: "s1".parse().unwrap(), labels: BTreeMap::new() };
        let ops = vec![
            Op::InitCluster { record, node },
            Op::CreateSecret { id: secret_id(1), spec, length: 3, payload: payload.into() },
        ];
        world.store.propose(ops).await.unwrap();
        world
    }

    fn seal(&self, version: u64) -> SealedPayload {
        let name = "s1".parse().unwrap();
        let binding = PayloadBinding { cluster: self.cluster, secret: secret_id(1), version, name, length: 3 };
        let sealed = seal(&SecretBytes::new(b"abc".to_vec()), &binding, &self.key.public()).unwrap();
        SealedPayload { ciphertext: sealed.ciphertext, wrapped_dek: sealed.wrapped_dek }
    }

    /// A service with one task on the node, which may read the secret.
    async fn assign(&self) {
        let service = service(1);
        let mut spec = service_spec("web", 1);
        spec.task.container.secrets = vec![grant(1, "pw")];
        let mut task = task(&service, 1);
        task.spec = spec.task.clone();
        task.node_id = Some(self.node);
        task.status.state = TaskState::Assigned;
        self.store.propose(vec![Op::CreateService { id: service.id, spec }, Op::CreateTask { task }]).await.unwrap();
    }

    async fn rotate(&self, version: u64) {
        let payload = Some((3, self.seal(version).into()));
        let op = Op::UpdateSecret { id: secret_id(1), expect: SecretVersion(version - 1), labels: None, payload };
        self.store.propose(vec![op]).await.unwrap();
    }

    fn feed(&self) -> Feed {
        Feed::new(&self.store, self.node, CancellationToken::new())
    }
}

fn show(message: &v1::AssignmentsMessage) -> Vec<String> {
    let item = |change: &v1::AssignmentChange| match change.item.as_ref().unwrap() {
        Item::Secret(secret) => format!("{:?} secret v{}", change.action(), secret.secret_version),
        Item::Grant(grant) => format!("{:?} grant v{}", change.action(), grant.secret_version),
        Item::Task(_) => format!("{:?} task", change.action()),
    };
    message.changes.iter().map(item).collect()
}

#[tokio::test]
async fn everything_is_told_in_order() {
    let world = World::new().await;
    world.assign().await;
    let mut feed = world.feed();

    let first = feed.next().await.unwrap();
    world.rotate(2).await;
    let second = feed.next().await.unwrap();

    assert_eq!(show(&first), ["Update secret v1", "Update grant v1", "Update task"]);
    assert_eq!((first.kind(), first.applies_to.as_str(), first.results_in.as_str()), (Kind::Complete, "", "1"));
    assert_eq!(show(&second), ["Update secret v2", "Update grant v2", "Remove secret v1"]);
    assert_eq!((second.kind(), second.applies_to.as_str(), second.results_in.as_str()), (Kind::Incremental, "1", "2"));
}

#[tokio::test]
async fn task_whose_secret_is_rotated_meanwhile_is_told_of_with_the_new_version() {
    let world = World::new().await;
    world.assign().await;
    let mut feed = world.feed();
    world.rotate(2).await;

    let first = feed.next().await.unwrap();
    let second = feed.next().await.unwrap();

    assert_eq!(show(&first), [""; 0], "version 1 is gone, and the task must not start without its secret");
    assert_eq!(show(&second), ["Update secret v2", "Update grant v2", "Remove secret v1", "Update task"]);
}

#[tokio::test]
async fn empty_node_gets_an_empty_complete_set() {
    let world = World::new().await;

    let first = world.feed().next().await.unwrap();

    assert_eq!((first.kind(), first.changes.len(), first.more), (Kind::Complete, 0, false));
}

#[tokio::test]
async fn ended_session_ends_the_stream() {
    let world = World::new().await;
    let ended = CancellationToken::new();
    let mut feed = Feed::new(&world.store, world.node, ended.clone());
    feed.next().await.unwrap();

    ended.cancel();

    assert_eq!(feed.next().await.unwrap_err().message(), "the session has ended: begin a new one");
}
