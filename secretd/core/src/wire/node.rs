//! Nodes and the cluster.

use std::collections::BTreeMap;

use secretd_proto::v1;

use super::{WireError, known, parse, required};
use crate::node::{Availability, Cluster, Node, NodeDescription, NodeState, SecretsStatus};

impl From<Node> for v1::Node {
    /// Whether the node leads is not part of its record: who answers sets it.
    fn from(node: Node) -> Self {
        let availability = match node.availability {
            Availability::Active => v1::node::Availability::Active,
            Availability::Pause => v1::node::Availability::Pause,
            Availability::Drain => v1::node::Availability::Drain,
        };
        let state = match node.state {
            NodeState::Unknown => v1::node::State::Unknown,
            NodeState::Ready => v1::node::State::Ready,
            NodeState::Down => v1::node::State::Down,
            NodeState::Disconnected => v1::node::State::Disconnected,
        };
        Self {
            id: node.id.to_string(),
            meta: Some(node.meta.into()),
            labels: node.labels.into_iter().collect(),
            availability: availability.into(),
            manager: node.manager,
            leader: false,
            state: state.into(),
            message: node.message,
            address: node.address,
            description: Some(node.description.into()),
        }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = WireError;
    fn try_from(node: v1::Node) -> Result<Self, WireError> {
        Ok(Self {
            id: parse("id", &node.id)?,
            meta: required("meta", node.meta)?.into(),
            labels: BTreeMap::from_iter(node.labels),
            availability: match known("availability", node.availability)? {
                v1::node::Availability::Active => Availability::Active,
                v1::node::Availability::Pause => Availability::Pause,
                v1::node::Availability::Drain => Availability::Drain,
            },
            manager: node.manager,
            state: match known("state", node.state)? {
                v1::node::State::Unknown => NodeState::Unknown,
                v1::node::State::Ready => NodeState::Ready,
                v1::node::State::Down => NodeState::Down,
                v1::node::State::Disconnected => NodeState::Disconnected,
            },
            message: node.message,
            address: node.address,
            description: node.description.map(NodeDescription::from).unwrap_or_default(),
        })
    }
}

impl From<NodeDescription> for v1::NodeDescription {
    fn from(node: NodeDescription) -> Self {
        Self {
            hostname: node.hostname,
            os: node.os,
            architecture: node.architecture,
            engine_version: node.engine_version,
            kernel: node.kernel,
            nano_cpus: node.nano_cpus,
            memory_bytes: node.memory_bytes,
            engine_labels: node.engine_labels.into_iter().collect(),
            secrets: Some(node.secrets.into()),
            cgroup: node.cgroup,
        }
    }
}

impl From<v1::NodeDescription> for NodeDescription {
    fn from(node: v1::NodeDescription) -> Self {
        Self {
            hostname: node.hostname,
            os: node.os,
            architecture: node.architecture,
            engine_version: node.engine_version,
            kernel: node.kernel,
            nano_cpus: node.nano_cpus,
            memory_bytes: node.memory_bytes,
            engine_labels: BTreeMap::from_iter(node.engine_labels),
            secrets: node.secrets.map(SecretsStatus::from).unwrap_or_default(),
            cgroup: node.cgroup,
        }
    }
}

impl From<SecretsStatus> for v1::SecretsStatus {
    fn from(status: SecretsStatus) -> Self {
        Self {
            backend: status.backend,
            backend_reason: status.backend_reason,
            memory: status.memory,
            public_key: status.public_key,
            sandbox: status.sandbox,
            weaknesses: status.weaknesses,
            kek: status.kek,
            kek_secure: status.kek_secure,
        }
    }
}

impl From<v1::SecretsStatus> for SecretsStatus {
    fn from(status: v1::SecretsStatus) -> Self {
        Self {
            backend: status.backend,
            backend_reason: status.backend_reason,
            memory: status.memory,
            public_key: status.public_key,
            sandbox: status.sandbox,
            weaknesses: status.weaknesses,
            kek: status.kek,
            kek_secure: status.kek_secure,
        }
    }
}

impl From<Cluster> for v1::Cluster {
    fn from(cluster: Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            meta: Some(cluster.meta.into()),
            sealing_key: cluster.sealing_key.to_vec(),
            task_history_limit: cluster.task_history_limit,
        }
    }
}

impl TryFrom<v1::Cluster> for Cluster {
    type Error = WireError;
    fn try_from(cluster: v1::Cluster) -> Result<Self, WireError> {
        let sealing_key = cluster.sealing_key.try_into();
        Ok(Self {
            id: parse("id", &cluster.id)?,
            meta: required("meta", cluster.meta)?.into(),
            sealing_key: sealing_key.map_err(|_| WireError::new("sealing_key", "must have 32 bytes"))?,
            task_history_limit: cluster.task_history_limit,
        })
    }
}
