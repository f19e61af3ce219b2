//! Nodes and the cluster.

use std::collections::BTreeMap;

use secretd_proto::v1;

use super::{WireError, duration_from_wire, duration_to_wire, known, parse, required};
use crate::node::{
    Availability, Cluster, ClusterSpec, Node, NodeCertificate, NodeDescription, NodeState, RetiredRoot, RootRotation,
    SecretsStatus,
};
use crate::time::{Timestamp, Version};

impl From<Node> for v1::Node {
    /// Whether the node leads, and whether its certificate is the newest root's, is not part of its record: who answers
    /// sets it.
    fn from(node: Node) -> Self {
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
            availability: v1::node::Availability::from(node.availability).into(),
            manager: node.manager,
            leader: false,
            reachability: v1::node::Reachability::None.into(),
            state: state.into(),
            message: node.message,
            address: node.address,
            description: Some(node.description.into()),
            spec_version: node.spec_version.0,
            certificate: node.certificate.map(Into::into),
            tls_status: v1::node::TlsStatus::Unknown.into(),
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
            availability: known::<v1::node::Availability>("availability", node.availability)?.into(),
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
            spec_version: Version(node.spec_version),
            certificate: node.certificate.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<NodeCertificate> for v1::NodeCertificate {
    fn from(certificate: NodeCertificate) -> Self {
        Self {
            issuer: certificate.issuer.to_vec(),
            fingerprint: certificate.fingerprint.to_vec(),
            not_after_unix_nanos: certificate.not_after.0,
        }
    }
}

impl TryFrom<v1::NodeCertificate> for NodeCertificate {
    type Error = WireError;
    fn try_from(certificate: v1::NodeCertificate) -> Result<Self, WireError> {
        Ok(Self {
            issuer: digest("issuer", certificate.issuer)?,
            fingerprint: digest("fingerprint", certificate.fingerprint)?,
            not_after: Timestamp(certificate.not_after_unix_nanos),
        })
    }
}

fn digest(field: &'static str, bytes: Vec<u8>) -> Result<[u8; 32], WireError> {
    bytes.try_into().map_err(|_| WireError::new(field, "must have 32 bytes"))
}

impl From<Availability> for v1::node::Availability {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Active => Self::Active,
            Availability::Pause => Self::Pause,
            Availability::Drain => Self::Drain,
        }
    }
}

impl From<v1::node::Availability> for Availability {
    fn from(availability: v1::node::Availability) -> Self {
        match availability {
            v1::node::Availability::Active => Self::Active,
            v1::node::Availability::Pause => Self::Pause,
            v1::node::Availability::Drain => Self::Drain,
        }
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
            fault: node.fault,
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
            fault: node.fault,
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
            data_key_made_at: status.data_key_made_at,
            data_key_resealing: status.data_key_resealing,
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
            data_key_made_at: status.data_key_made_at,
            data_key_resealing: status.data_key_resealing,
        }
    }
}

impl From<Cluster> for v1::Cluster {
    fn from(cluster: Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            meta: Some(cluster.meta.into()),
            sealing_key: cluster.sealing_key.to_vec(),
            spec: Some(cluster.spec.into()),
            roots: cluster.roots,
            rotation: cluster.rotation.map(|rotation| v1::RootRotation {
                cross: rotation.cross,
                started_at_unix_nanos: rotation.started_at.0,
            }),
            retired: cluster.retired.into_iter().map(Into::into).collect(),
            epoch: cluster.epoch,
        }
    }
}

impl From<RetiredRoot> for v1::RetiredRoot {
    fn from(retired: RetiredRoot) -> Self {
        Self { root: retired.root, cross: retired.cross, retired_at_unix_nanos: retired.retired_at.0 }
    }
}

impl From<v1::RetiredRoot> for RetiredRoot {
    fn from(retired: v1::RetiredRoot) -> Self {
        Self { root: retired.root, cross: retired.cross, retired_at: Timestamp(retired.retired_at_unix_nanos) }
    }
}

impl From<ClusterSpec> for v1::ClusterSpec {
    fn from(spec: ClusterSpec) -> Self {
        Self {
            task_history_limit: Some(spec.task_history_limit),
            heartbeat: Some(duration_to_wire(spec.heartbeat)),
            cert_expiry: Some(duration_to_wire(spec.cert_expiry)),
            autolock: spec.autolock,
        }
    }
}

impl TryFrom<v1::ClusterSpec> for ClusterSpec {
    type Error = WireError;
    fn try_from(spec: v1::ClusterSpec) -> Result<Self, WireError> {
        let default = Self::default();
        Ok(Self {
            task_history_limit: spec.task_history_limit.unwrap_or(default.task_history_limit),
            heartbeat: duration_from_wire("heartbeat", spec.heartbeat, default.heartbeat)?,
            cert_expiry: duration_from_wire("cert_expiry", spec.cert_expiry, default.cert_expiry)?,
            autolock: spec.autolock,
        })
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
            spec: cluster.spec.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            roots: cluster.roots,
            rotation: cluster.rotation.map(|rotation| RootRotation {
                cross: rotation.cross,
                started_at: Timestamp(rotation.started_at_unix_nanos),
            }),
            retired: cluster.retired.into_iter().map(Into::into).collect(),
            epoch: cluster.epoch,
        })
    }
}
