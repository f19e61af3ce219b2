//! Operations as messages.

use std::sync::Arc;

use secretd_core::node::NodeState;
use secretd_core::secret::SecretVersion;
use secretd_core::time::Version;
use secretd_core::wire::WireError;
use secretd_proto::v1;
use secretd_proto::v1::stored_op::Op as Stored;
use secretd_sealing::secret::KeyBytes;

use super::{cluster, required, unknown};
use crate::failure::StorageFailure;
use crate::op::{Op, Payload};

/// An operation, without the bytes of its payload.
pub(super) fn to_stored(op: &Op) -> v1::StoredOp {
    v1::StoredOp { op: Some(stored(op)) }
}

fn stored(op: &Op) -> Stored {
    match op.clone() {
        Op::InitCluster { record, node } => Stored::InitCluster(v1::InitClusterOp {
            cluster: Some(cluster::to_stored(&record)),
            node: Some(node.into()),
        }),
        Op::UpdateCluster { expect, record } => {
            Stored::UpdateCluster(v1::UpdateClusterOp { expect: expect.0, cluster: Some(cluster::to_stored(&record)) })
        }
        Op::AdmitNode { node, secret } => {
            Stored::AdmitNode(v1::AdmitNodeOp { node: Some(node.into()), secret: secret.expose().to_vec() })
        }
        Op::SetNodeSpec { id, expect, labels, availability } => Stored::SetNodeSpec(v1::SetNodeSpecOp {
            id: id.to_string(),
            expect: expect.0,
            labels: labels.into_iter().collect(),
            availability: v1::node::Availability::from(availability).into(),
        }),
        Op::SetNodeRole { id, manager } => Stored::SetNodeRole(v1::SetNodeRoleOp { id: id.to_string(), manager }),
        Op::RemoveNode { id } => Stored::RemoveNode(v1::RemoveNodeOp { id: id.to_string() }),
        Op::SetNodeCertificate { id, certificate } => Stored::SetNodeCertificate(v1::SetNodeCertificateOp {
            id: id.to_string(),
            certificate: Some(certificate.into()),
        }),
        Op::PutOperator { operator } => {
            Stored::PutOperator(v1::PutOperatorOp { operator: Some(cluster::operator(&operator)) })
        }
        Op::RevokeOperators { serials } => Stored::RevokeOperators(v1::RevokeOperatorsOp { serials }),
        Op::CreateSecret { id, spec, length, payload } => Stored::CreateSecret(v1::CreateSecretOp {
            id: id.to_string(),
            spec: Some(spec.into()),
            length,
            payload_slot: payload.slot(),
        }),
        Op::UpdateSecret { id, expect, labels, payload } => Stored::UpdateSecret(v1::UpdateSecretOp {
            id: id.to_string(),
            expect: expect.0,
            labels: labels.map(|labels| v1::StoredLabels { labels: labels.into_iter().collect() }),
            payload: payload.map(|(length, payload)| v1::StoredNewPayload { length, payload_slot: payload.slot() }),
        }),
        Op::RemoveSecret { id } => Stored::RemoveSecret(v1::RemoveSecretOp { id: id.to_string() }),
        Op::CreateService { id, spec } => {
            Stored::CreateService(v1::CreateServiceOp { id: id.to_string(), spec: Some(spec.into()) })
        }
        Op::UpdateService { id, expect, spec, previous_spec, update_status } => {
            Stored::UpdateService(v1::UpdateServiceOp {
                id: id.to_string(),
                expect: expect.0,
                spec: Some(spec.into()),
                previous_spec: previous_spec.map(Into::into),
                update_status: update_status.map(Into::into),
            })
        }
        Op::SetUpdateStatus { id, status } => {
            Stored::SetUpdateStatus(v1::SetUpdateStatusOp { id: id.to_string(), status: status.map(Into::into) })
        }
        Op::RemoveService { id } => Stored::RemoveService(v1::RemoveServiceOp { id: id.to_string() }),
        Op::CreateTask { task } => Stored::CreateTask(v1::CreateTaskOp { task: Some(task.into()) }),
        Op::UpdateTaskStatus { id, node, status } => Stored::UpdateTaskStatus(v1::UpdateTaskStatusOp {
            id: id.to_string(),
            node_id: node.map_or_else(String::new, |node| node.to_string()),
            status: Some(status.into()),
        }),
        Op::SetTaskDesired { id, state } => Stored::SetTaskDesired(v1::SetTaskDesiredOp {
            id: id.to_string(),
            state: v1::TaskState::from(state).into(),
        }),
        Op::AssignTask { id, node } => {
            Stored::AssignTask(v1::AssignTaskOp { id: id.to_string(), node_id: node.to_string() })
        }
        Op::RemoveTask { id } => Stored::RemoveTask(v1::RemoveTaskOp { id: id.to_string() }),
        Op::PutNode { node } => Stored::PutNode(v1::PutNodeOp { node: Some(node.into()) }),
        Op::SetNodeStatus { id, state, message } => {
            Stored::SetNodeStatus(v1::SetNodeStatusOp { id: id.to_string(), state: node_state(state).into(), message })
        }
        Op::SetNodeDescription { id, description } => Stored::SetNodeDescription(v1::SetNodeDescriptionOp {
            id: id.to_string(),
            description: Some(description.into()),
        }),
    }
}

/// As [`to_stored`], backwards; payloads are without their bytes.
pub(super) fn from_stored(stored: v1::StoredOp) -> Result<Op, StorageFailure> {
    Ok(match required("op", stored.op)? {
        Stored::InitCluster(op) => Op::InitCluster {
            record: cluster::from_stored(required("cluster", op.cluster)?)?,
            node: required("node", op.node)?.try_into().map_err(unknown)?,
        },
        Stored::UpdateCluster(op) => Op::UpdateCluster {
            expect: Version(op.expect),
            record: cluster::from_stored(required("cluster", op.cluster)?)?,
        },
        Stored::AdmitNode(mut op) => Op::AdmitNode {
            node: required("node", op.node.take())?.try_into().map_err(unknown)?,
            secret: Arc::new(KeyBytes::new(std::mem::take(&mut op.secret))),
        },
        Stored::SetNodeSpec(op) => Op::SetNodeSpec {
            id: parse("id", &op.id)?,
            expect: Version(op.expect),
            labels: op.labels.into_iter().collect(),
            availability: v1::node::Availability::try_from(op.availability)
                .map_err(|_| unknown(WireError::new("availability", "is not known")))?
                .into(),
        },
        Stored::SetNodeRole(op) => Op::SetNodeRole { id: parse("id", &op.id)?, manager: op.manager },
        Stored::RemoveNode(op) => Op::RemoveNode { id: parse("id", &op.id)? },
        Stored::SetNodeCertificate(op) => set_node_certificate(op)?,
        Stored::PutOperator(op) => put_operator(op)?,
        Stored::RevokeOperators(op) => Op::RevokeOperators { serials: op.serials },
        Stored::CreateSecret(op) => Op::CreateSecret {
            id: parse("id", &op.id)?,
            spec: required("spec", op.spec)?.try_into().map_err(unknown)?,
            length: op.length,
            payload: Payload::stored(op.payload_slot),
        },
        Stored::UpdateSecret(op) => Op::UpdateSecret {
            id: parse("id", &op.id)?,
            expect: SecretVersion(op.expect),
            labels: op.labels.map(|labels| labels.labels.into_iter().collect()),
            payload: op.payload.map(|payload| (payload.length, Payload::stored(payload.payload_slot))),
        },
        Stored::RemoveSecret(op) => Op::RemoveSecret { id: parse("id", &op.id)? },
        Stored::CreateService(op) => Op::CreateService {
            id: parse("id", &op.id)?,
            spec: required("spec", op.spec)?.try_into().map_err(unknown)?,
        },
        Stored::UpdateService(op) => Op::UpdateService {
            id: parse("id", &op.id)?,
            expect: Version(op.expect),
            spec: required("spec", op.spec)?.try_into().map_err(unknown)?,
            previous_spec: op.previous_spec.map(TryInto::try_into).transpose().map_err(unknown)?,
            update_status: op.update_status.map(TryInto::try_into).transpose().map_err(unknown)?,
        },
        Stored::SetUpdateStatus(op) => Op::SetUpdateStatus {
            id: parse("id", &op.id)?,
            status: op.status.map(TryInto::try_into).transpose().map_err(unknown)?,
        },
        Stored::RemoveService(op) => Op::RemoveService { id: parse("id", &op.id)? },
        Stored::CreateTask(op) => Op::CreateTask { task: required("task", op.task)?.try_into().map_err(unknown)? },
        Stored::UpdateTaskStatus(op) => Op::UpdateTaskStatus {
            id: parse("id", &op.id)?,
            node: if op.node_id.is_empty() { None } else { Some(parse("node_id", &op.node_id)?) },
            status: required("status", op.status)?.try_into().map_err(unknown)?,
        },
        Stored::SetTaskDesired(op) => {
            let state = v1::TaskState::try_from(op.state);
            let state = state.map_err(|_| unknown(WireError::new("state", "is not known")))?;
            Op::SetTaskDesired { id: parse("id", &op.id)?, state: state.into() }
        }
        Stored::AssignTask(op) => Op::AssignTask { id: parse("id", &op.id)?, node: parse("node_id", &op.node_id)? },
        Stored::RemoveTask(op) => Op::RemoveTask { id: parse("id", &op.id)? },
        Stored::PutNode(op) => Op::PutNode { node: required("node", op.node)?.try_into().map_err(unknown)? },
        Stored::SetNodeStatus(op) => {
            Op::SetNodeStatus { id: parse("id", &op.id)?, state: node_state_back(op.state)?, message: op.message }
        }
        Stored::SetNodeDescription(op) => Op::SetNodeDescription {
            id: parse("id", &op.id)?,
            description: required("description", op.description)?.into(),
        },
    })
}

fn set_node_certificate(op: v1::SetNodeCertificateOp) -> Result<Op, StorageFailure> {
    let certificate = required("certificate", op.certificate)?.try_into().map_err(unknown)?;
    Ok(Op::SetNodeCertificate { id: parse("id", &op.id)?, certificate })
}

fn put_operator(op: v1::PutOperatorOp) -> Result<Op, StorageFailure> {
    Ok(Op::PutOperator { operator: cluster::operator_back(required("operator", op.operator)?)? })
}

fn node_state(state: NodeState) -> v1::node::State {
    match state {
        NodeState::Unknown => v1::node::State::Unknown,
        NodeState::Ready => v1::node::State::Ready,
        NodeState::Down => v1::node::State::Down,
        NodeState::Disconnected => v1::node::State::Disconnected,
    }
}

fn node_state_back(state: i32) -> Result<NodeState, StorageFailure> {
    let state = v1::node::State::try_from(state).map_err(|_| unknown(WireError::new("state", "is not known")))?;
    Ok(match state {
        v1::node::State::Unknown => NodeState::Unknown,
        v1::node::State::Ready => NodeState::Ready,
        v1::node::State::Down => NodeState::Down,
        v1::node::State::Disconnected => NodeState::Disconnected,
    })
}

pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<T, StorageFailure> {
    text.parse().map_err(|error| unknown(WireError::new(field, error)))
}
