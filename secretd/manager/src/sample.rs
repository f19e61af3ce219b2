//! Objects for tests, in as few words as possible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secretd_core::node::{Availability, Node, NodeDescription, NodeState, SecretsStatus};
use secretd_core::placement::Placement;
use secretd_core::secret::{Secret, SecretSpec, SecretVersion};
use secretd_core::service::{
    ContainerSpec, LogConfig, NetworkMode, Resources, RestartPolicy, SecretGrant, Service, ServiceMode, ServiceSpec,
    TaskSpec, UpdateConfig,
};
use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_core::time::{Meta, Timestamp, Version};
use secretd_proto::id::{NodeId, SecretId, ServiceId, TaskId};

/// `n` seconds after the tests' epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

fn bytes(n: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[15] = n;
    bytes
}

pub(crate) fn task_id(n: u8) -> TaskId {
    TaskId::from_random(bytes(n))
}

pub(crate) fn node_id(n: u8) -> NodeId {
    NodeId::from_random(bytes(n))
}

pub(crate) fn secret_id(n: u8) -> SecretId {
    SecretId::from_random(bytes(n))
}

pub(crate) fn container(image: &str) -> ContainerSpec {
    ContainerSpec {
        image: image.to_owned(),
        entrypoint: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        workdir: String::new(),
        user: String::new(),
        groups: Vec::new(),
        hostname: String::new(),
        labels: BTreeMap::new(),
        mounts: Vec::new(),
        secrets: Vec::new(),
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
    }
}

pub(crate) fn task_spec(image: &str) -> TaskSpec {
    TaskSpec {
        container: container(image),
        restart: RestartPolicy::default(),
        resources: Resources::default(),
        force_update: 0,
        log: LogConfig::default(),
        network: NetworkMode::None,
        placement: Placement::default(),
    }
}

pub(crate) fn service_spec(name: &str, replicas: u64) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        labels: BTreeMap::new(),
        task: task_spec("app:1"),
        mode: ServiceMode::Replicated { replicas },
        update: UpdateConfig::default(),
    }
}

pub(crate) fn service(replicas: u64) -> Service {
    Service {
        id: ServiceId::from_random(bytes(1)),
        meta: Meta::default(),
        spec: service_spec("web", replicas),
        previous_spec: None,
        update_status: None,
        spec_version: Version(1),
    }
}

pub(crate) fn grant(n: u8, target: &str) -> SecretGrant {
    SecretGrant {
        secret: secret_id(n),
        name: format!("s{n}").parse().unwrap(),
        target: target.to_owned(),
        uid: 0,
        gid: 0,
        mode: 0o444,
        pinned: None,
    }
}

pub(crate) fn secret(n: u8, version: u64) -> Arc<Secret> {
    Arc::new(Secret {
        id: secret_id(n),
        meta: Meta::default(),
        spec: SecretSpec { name: format!("s{n}").parse().unwrap(), labels: BTreeMap::new() },
        version: SecretVersion(version),
        length: 3,
    })
}

/// A running task of `service` on node 1, with id and slot `n`.
pub(crate) fn task(service: &Service, n: u8) -> Task {
    Task {
        id: task_id(n),
        meta: Meta { created_at: at(i64::from(n)), ..Meta::default() },
        service_id: service.id,
        service_name: service.spec.name.clone(),
        slot: u64::from(n),
        node_id: Some(node_id(1)),
        spec: service.spec.task.clone(),
        spec_version: service.spec_version,
        desired_state: TaskState::Running,
        status: TaskStatus {
            state: TaskState::Running,
            since: at(i64::from(n)),
            message: String::new(),
            error: String::new(),
            container: None,
            secret_backend: String::new(),
        },
    }
}

pub(crate) fn node(n: u8) -> Node {
    Node {
        id: node_id(n),
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        manager: n == 1,
        state: NodeState::Ready,
        message: String::new(),
        address: String::new(),
        spec_version: Version::default(),
        certificate: None,
        description: NodeDescription {
            hostname: format!("host{n}"),
            nano_cpus: 2_000_000_000,
            memory_bytes: 1 << 30,
            secrets: SecretsStatus { public_key: vec![n; 32], ..SecretsStatus::default() },
            ..NodeDescription::default()
        },
    }
}
