//! What can be asked of the state: a closed list, so that the log has no other vocabulary.
//!
//! An [`Op`] names its preconditions by what it carries; they are checked where it is applied, so they hold however many
//! writers there are. Operations of one proposal are applied together or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::node::{Availability, Node, NodeCertificate, NodeDescription, NodeState};
use secretd_core::secret::{SealedPayload, SecretSpec, SecretVersion};
use secretd_core::service::{ServiceSpec, UpdateStatus};
use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_core::time::{Timestamp, Version};
use secretd_proto::id::{NodeId, SecretId, ServiceId, TaskId};
use secretd_sealing::secret::KeyBytes;

use crate::cluster::{ClusterRecord, Operator};

/// One change. `meta` of the objects that it carries is ignored: applying sets it.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // lives for one proposal, a few at a time
pub enum Op {
    /// Founds the cluster, with its first node. Refused when there is one.
    InitCluster {
        /// The cluster and its keys.
        record: ClusterRecord,
        /// The first node.
        node: Node,
    },
    /// Replaces the cluster's record. Refused when it has changed since `expect`.
    UpdateCluster {
        /// `meta.version` that the change was made from.
        expect: Version,
        /// The cluster and its keys from now on.
        record: ClusterRecord,
    },
    /// Records a node that has shown a join token of its role, and counts the use. Refused when the token does not count,
    /// or the id is taken.
    AdmitNode {
        /// The new node.
        node: Node,
        /// The secret of the token.
        secret: Arc<KeyBytes>,
    },
    /// Refused when the id or the name is taken.
    CreateSecret {
        /// Chosen by the client, because the seal is bound to it.
        id: SecretId,
        /// Name and labels.
        spec: SecretSpec,
        /// Bytes of plaintext.
        length: u32,
        /// Bound to version 1.
        payload: Payload,
    },
    /// Refused when the secret is not at version `expect`.
    UpdateSecret {
        /// Which.
        id: SecretId,
        /// The version that the change was made from.
        expect: SecretVersion,
        /// Replaces all labels; `None` keeps them.
        labels: Option<BTreeMap<String, String>>,
        /// The next version's bytes of plaintext and payload; `None` keeps the version.
        payload: Option<(u32, Payload)>,
    },
    /// Refused while a service's specification grants the secret.
    RemoveSecret {
        /// Which.
        id: SecretId,
    },
    /// Refused when the id or the name is taken, or a granted secret (or its pinned version) does not exist.
    CreateService {
        /// Its id.
        id: ServiceId,
        /// What is wanted.
        spec: ServiceSpec,
    },
    /// Refused when the service has changed since `expect`, when the name differs, or when a granted secret does not exist.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// `meta.version` that the change was made from.
        expect: Version,
        /// What is wanted from now on.
        spec: ServiceSpec,
        /// What a later rollback goes back to.
        previous_spec: Option<ServiceSpec>,
        /// How the replacement of tasks goes.
        update_status: Option<UpdateStatus>,
    },
    /// Says how the replacement of a service's tasks goes.
    SetUpdateStatus {
        /// Which service.
        id: ServiceId,
        /// The new status; `None` when there is nothing to say.
        status: Option<UpdateStatus>,
    },
    /// Removes a service. Its tasks stay until they are removed one by one.
    RemoveService {
        /// Which.
        id: ServiceId,
    },
    /// Refused when the id is taken or the service does not exist.
    CreateTask {
        /// The whole task.
        task: Task,
    },
    /// An observation. Refused when the state would go back, or when the task is not at `node`.
    UpdateTaskStatus {
        /// Which.
        id: TaskId,
        /// Who observed it: the task's node, or `None` while the task has none.
        node: Option<NodeId>,
        /// What was observed.
        status: TaskStatus,
    },
    /// Refused when the desired state would go back.
    SetTaskDesired {
        /// Which.
        id: TaskId,
        /// Where the cluster wants it.
        state: TaskState,
    },
    /// Gives a task a node and the state ASSIGNED. Refused when it has one, when it has ended, or when the node does not exist.
    AssignTask {
        /// Which.
        id: TaskId,
        /// Where to.
        node: NodeId,
    },
    /// Forgets a task.
    RemoveTask {
        /// Which.
        id: TaskId,
    },
    /// Records a node, new or as a whole replacement.
    PutNode {
        /// The whole node.
        node: Node,
    },
    /// Says whether a node's agent is connected.
    SetNodeStatus {
        /// Which.
        id: NodeId,
        /// Whether its agent is connected.
        state: NodeState,
        /// Why.
        message: String,
    },
    /// Sets what operators say of a node. Refused when that has changed since `expect`.
    SetNodeSpec {
        /// Which.
        id: NodeId,
        /// `spec_version` that the change was made from.
        expect: Version,
        /// All its labels.
        labels: BTreeMap<String, String>,
        /// Whether it takes tasks.
        availability: Availability,
    },
    /// Says what a node is to be.
    SetNodeRole {
        /// Which.
        id: NodeId,
        /// Whether it is a manager.
        manager: bool,
    },
    /// Takes a node out of the cluster. Its certificate counts no more.
    RemoveNode {
        /// Which.
        id: NodeId,
    },
    /// Records what a node says of itself.
    SetNodeDescription {
        /// Which.
        id: NodeId,
        /// What it says.
        description: NodeDescription,
    },
    /// Records the certificate that a node has shown.
    SetNodeCertificate {
        /// Which.
        id: NodeId,
        /// What is remembered of it.
        certificate: NodeCertificate,
    },
    /// Records a certificate that was made for an operator. Refused when there are too many that have not expired.
    PutOperator {
        /// The certificate.
        operator: Operator,
    },
    /// Takes operators' certificates back. Refused when one of them is not on record.
    RevokeOperators {
        /// Their serial numbers.
        serials: Vec<String>,
    },
}

/// Operations that are applied together or not at all, with the time at which they were proposed: applying reads no clock.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    /// The proposer's time.
    pub(crate) at: Timestamp,
    /// In order.
    pub(crate) ops: Vec<Op>,
}

/// Where a payload's record is: which log entry brought it, and which of that entry's payloads it is.
///
/// The same on every replica, never used twice, and independent of the secret's id: a refused operation cannot
/// overwrite the payload of an accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PayloadRef {
    /// Raft index of the entry.
    pub(crate) index: u64,
    /// From 0, in the entry.
    pub(crate) slot: u32,
}

impl PayloadRef {
    /// Before every payload.
    pub(crate) const FIRST: Self = Self { index: 0, slot: 0 };

    /// The last that the entry at `index` can have.
    pub(crate) fn last_of(index: u64) -> Self {
        Self { index, slot: u32::MAX }
    }
}

/// A sealed payload inside an operation. Its bytes are kept apart from the operation: applying never needs them.
#[derive(Debug, Clone)]
pub struct Payload {
    slot: u32,
    sealed: Option<Arc<SealedPayload>>,
}

impl Payload {
    /// An operation's reference to a payload whose bytes are elsewhere.
    pub(crate) fn stored(slot: u32) -> Self {
        Self { slot, sealed: None }
    }

    /// The bytes, unless they are elsewhere.
    pub(crate) fn sealed(&self) -> Option<&Arc<SealedPayload>> {
        self.sealed.as_ref()
    }

    /// Which of its entry's payloads it is.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// Puts the bytes back in that were kept elsewhere.
    pub(crate) fn join(&mut self, sealed: Arc<SealedPayload>) {
        self.sealed = Some(sealed);
    }
}

impl From<SealedPayload> for Payload {
    fn from(sealed: SealedPayload) -> Self {
        Self { slot: 0, sealed: Some(Arc::new(sealed)) }
    }
}

impl Op {
    /// Whether the state is larger after it: such operations are refused first when the disk is nearly full.
    pub fn grows_state(&self) -> bool {
        match self {
            Self::InitCluster { .. }
            | Self::CreateSecret { .. }
            | Self::UpdateSecret { .. }
            | Self::CreateService { .. }
            | Self::UpdateService { .. }
            | Self::CreateTask { .. }
            | Self::AdmitNode { .. }
            | Self::PutOperator { .. }
            | Self::PutNode { .. } => true,
            Self::RemoveSecret { .. }
            | Self::SetUpdateStatus { .. }
            | Self::RemoveService { .. }
            | Self::UpdateTaskStatus { .. }
            | Self::SetTaskDesired { .. }
            | Self::AssignTask { .. }
            | Self::RemoveTask { .. }
            | Self::UpdateCluster { .. }
            | Self::SetNodeSpec { .. }
            | Self::SetNodeRole { .. }
            | Self::RemoveNode { .. }
            | Self::SetNodeStatus { .. }
            | Self::SetNodeDescription { .. }
            | Self::SetNodeCertificate { .. }
            | Self::RevokeOperators { .. } => false,
        }
    }

    /// Whether something on the disk is not needed any more after it.
    pub(crate) fn leaves_garbage(&self) -> bool {
        matches!(
            self,
            Self::UpdateSecret { .. }
                | Self::RemoveSecret { .. }
                | Self::RemoveService { .. }
                | Self::RemoveTask { .. }
        )
    }

    /// The payload of an operation that brings one.
    pub(crate) fn payload(&self) -> Option<(u32, &Payload)> {
        if let Self::CreateSecret { length, payload, .. }
        | Self::UpdateSecret { payload: Some((length, payload)), .. } = self
        {
            return Some((*length, payload));
        }
        None
    }

    /// As [`Op::payload`], to be changed.
    pub(crate) fn payload_mut(&mut self) -> Option<&mut Payload> {
        if let Self::CreateSecret { payload, .. } | Self::UpdateSecret { payload: Some((_, payload)), .. } = self {
            return Some(payload);
        }
        None
    }
}

/// Numbers the payloads of a log entry, so that each has a [`PayloadRef`] of its own.
pub(crate) fn number_payloads(proposals: &mut [Proposal]) {
    let payloads = proposals.iter_mut().flat_map(|proposal| &mut proposal.ops).filter_map(Op::payload_mut);
    for (slot, payload) in (0u32..).zip(payloads) {
        payload.slot = slot;
    }
}
