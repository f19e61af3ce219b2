//! Objects and stores for this crate's tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use camino::Utf8PathBuf;
use secretd_core::node::{Availability, ClusterSpec, Node, NodeDescription, NodeState};
use secretd_core::placement::Placement;
use secretd_core::seam::clock::Clock;
use secretd_core::secret::{SealedPayload, SecretSpec, SecretVersion};
use secretd_core::service::{
    ContainerSpec, LogConfig, NetworkMode, Resources, RestartPolicy, SecretGrant, ServiceMode, ServiceSpec, TaskSpec,
    UpdateConfig,
};
use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_core::time::{Meta, Timestamp, Version};
use secretd_proto::id::{ClusterId, NodeId, SecretId, ServiceId, TaskId};
use secretd_sealing::at_rest::Sealer;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::{Dek, KeyBytes};

use crate::cluster::{ClusterRecord, Founding};
use crate::op::Op;
use crate::peers::NoPeers;
use crate::store::Store;

/// Counts, so that every proposal has a time of its own.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicI64);

impl Clock for Counter {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(Counter::default())
}

pub(crate) fn sealer() -> Sealer {
    Sealer::new(&Dek::from_bytes(&[7; 32]))
}

/// A directory that is gone after the test, and its path.
pub(crate) fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().join("store")).unwrap();
    (directory, path)
}

pub(crate) async fn open(path: &Utf8PathBuf) -> Store {
    Store::open(path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap()
}

pub(crate) fn init() -> Op {
    Op::InitCluster { record: cluster_record(), node: node(1) }
}

pub(crate) fn cluster_record() -> ClusterRecord {
    let key = |fill| KeyBytes::new(vec![fill; 16]);
    let founding = Founding {
        sealing: PrivateKey::from_bytes(&[9; 32]),
        root: vec![1, 2, 3],
        authority: key(7),
        worker: key(4),
        manager: key(5),
    };
    ClusterRecord::new(ClusterId::from_random([1; 16]), ClusterSpec::default(), founding)
}

pub(crate) fn node_id(n: u8) -> NodeId {
    NodeId::from_random([n; 16])
}

pub(crate) fn node(n: u8) -> Node {
    Node {
        id: node_id(n),
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        manager: true,
        state: NodeState::Ready,
        message: String::new(),
        address: "127.0.0.1:7377".to_owned(),
        spec_version: Version::default(),
        certificate: None,
        description: NodeDescription { hostname: format!("host-{n}"), ..NodeDescription::default() },
    }
}

pub(crate) fn payload(length: u32, fill: u8) -> SealedPayload {
    SealedPayload { ciphertext: vec![fill; length as usize + 16], wrapped_dek: vec![fill; 80] }
}

pub(crate) fn secret_id(n: u8) -> SecretId {
    SecretId::from_random([n; 16])
}

pub(crate) fn create_secret(n: u8, name: &str, length: u32) -> Op {
    Op::CreateSecret {
        id: secret_id(n),
        spec: SecretSpec { name: name.parse().unwrap(), labels: BTreeMap::new() },
        length,
        payload: payload(length, n).into(),
    }
}

pub(crate) fn update_secret(n: u8, expect: u64, length: u32, fill: u8) -> Op {
    Op::UpdateSecret {
        id: secret_id(n),
        expect: SecretVersion(expect),
        labels: None,
        payload: Some((length, payload(length, fill).into())),
    }
}

pub(crate) fn service_id(n: u8) -> ServiceId {
    ServiceId::from_random([n; 16])
}

/// A grant of the secret that `create_secret(n, name, …)` makes.
pub(crate) fn grant(n: u8, name: &str, pinned: Option<u64>) -> SecretGrant {
    SecretGrant {
        secret: secret_id(n),
        name: name.parse().unwrap(),
        target: name.to_owned(),
        uid: 0,
        gid: 0,
        mode: 0o444,
        pinned: pinned.map(SecretVersion),
    }
}

pub(crate) fn service_spec(name: &str, grants: Vec<SecretGrant>) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        labels: BTreeMap::new(),
        task: task_spec(grants),
        mode: ServiceMode::Replicated { replicas: 1 },
        update: UpdateConfig::default(),
    }
}

pub(crate) fn task_spec(secrets: Vec<SecretGrant>) -> TaskSpec {
    let container = ContainerSpec {
        image: "app:1".to_owned(),
        entrypoint: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        workdir: String::new(),
        user: String::new(),
        groups: Vec::new(),
        hostname: String::new(),
        labels: BTreeMap::new(),
        mounts: Vec::new(),
        secrets,
        read_only: false,
        init: false,
        tty: false,
        no_new_privileges: false,
        stop_signal: String::new(),
        stop_grace_period: Duration::from_secs(10),
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        hosts: Vec::new(),
        ulimits: Vec::new(),
        sysctls: BTreeMap::new(),
        oom_score_adj: 0,
    };
    TaskSpec {
        container,
        restart: RestartPolicy::default(),
        resources: Resources::default(),
        force_update: 0,
        log: LogConfig::default(),
        network: NetworkMode::None,
        placement: Placement::default(),
    }
}

pub(crate) fn create_service(n: u8, name: &str, grants: Vec<SecretGrant>) -> Op {
    Op::CreateService { id: service_id(n), spec: service_spec(name, grants) }
}

pub(crate) fn task_id(n: u8) -> TaskId {
    TaskId::from_random([n; 16])
}

pub(crate) fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state,
        since: Timestamp(0),
        message: String::new(),
        error: String::new(),
        container: None,
        secret_backend: String::new(),
    }
}

pub(crate) fn create_task(n: u8, service: u8, grants: Vec<SecretGrant>) -> Op {
    let task = Task {
        id: task_id(n),
        meta: Meta::default(),
        service_id: service_id(service),
        service_name: "app".parse().unwrap(),
        slot: 1,
        node_id: None,
        spec: task_spec(grants),
        spec_version: Version(1),
        desired_state: TaskState::Running,
        status: status(TaskState::New),
    };
    Op::CreateTask { task }
}
