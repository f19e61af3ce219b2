//! What a simulated cluster begins with.

use std::collections::BTreeMap;

use secretd_core::node::{Availability, ClusterSpec, Node, NodeDescription, NodeState};
use secretd_core::secret::SealedPayload;
use secretd_core::time::{Meta, Version};
use secretd_proto::id::ClusterId;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{ClusterRecord, Founding, Member, Op};

/// What stands for the root certificate.
pub(crate) const ROOT: [u8; 3] = [1, 2, 3];

/// Founds the cluster on its first manager. Nobody checks certificates here.
pub(crate) fn found(first: &Member, spec: ClusterSpec) -> Op {
    let founding = Founding {
        sealing: PrivateKey::from_bytes(&[9; 32]),
        root: ROOT.to_vec(),
        authority: KeyBytes::new(vec![7; 16]),
        worker: KeyBytes::new(vec![4; 16]),
        manager: KeyBytes::new(vec![5; 16]),
    };
    let record = ClusterRecord::new(ClusterId::from_random([1; 16]), spec, founding);
    Op::InitCluster { record, node: node(first, true) }
}

pub(crate) fn node(member: &Member, manager: bool) -> Node {
    Node {
        id: member.node,
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        manager,
        state: NodeState::Unknown,
        message: String::new(),
        address: member.address.clone(),
        spec_version: Version::default(),
        certificate: None,
        description: NodeDescription::default(),
    }
}

/// A payload that tells which attempt wrote it.
pub(crate) fn payload(attempt: u64, length: u32) -> SealedPayload {
    let mut ciphertext = vec![attempt.to_le_bytes()[0]; length as usize + 16];
    ciphertext[..8].copy_from_slice(&attempt.to_be_bytes());
    SealedPayload { ciphertext, wrapped_dek: vec![attempt.to_le_bytes()[0]; 80] }
}
