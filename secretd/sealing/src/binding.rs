//! What an envelope is tied to. Each field is associated data of the seal, so no record can be moved, swapped, renamed,
//! cut or replayed: the seal then does not open.

use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_proto::name::SecretName;

/// What a payload, and its data key, is tied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadBinding {
    /// The cluster that the client sealed for.
    pub cluster: ClusterId,
    /// The secret.
    pub secret: SecretId,
    /// Counts the secret's payloads, from 1.
    pub version: u64,
    /// The secret's name.
    pub name: SecretName,
    /// Bytes of plaintext.
    pub length: u32,
}

impl PayloadBinding {
    /// The encoding: a label, then each field, fixed ones in big endian, the name last with its length before it.
    pub fn associated_data(&self) -> Vec<u8> {
        let name = self.name.as_str().as_bytes();
        let mut data = Vec::with_capacity(96 + name.len());
        data.extend_from_slice(b"secretd payload 1\0");
        data.extend_from_slice(self.cluster.as_bytes());
        data.extend_from_slice(self.secret.as_bytes());
        data.extend_from_slice(&self.version.to_be_bytes());
        data.extend_from_slice(&self.length.to_be_bytes());
        data.extend_from_slice(&(name.len() as u64).to_be_bytes());
        data.extend_from_slice(name);
        data
    }
}

/// What the data key in a grant is tied to: all that the payload is, and who may read it where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantBinding {
    /// Which payload.
    pub payload: PayloadBinding,
    /// The node whose secret-fs opens it.
    pub node: NodeId,
    /// The task that reads it.
    pub task: TaskId,
    /// Grows whenever the grant is made anew.
    pub epoch: u64,
}

impl GrantBinding {
    /// The encoding: a label, node, task and epoch, then the payload's.
    pub fn associated_data(&self) -> Vec<u8> {
        let mut data = b"secretd grant 1\0".to_vec();
        data.extend_from_slice(self.node.as_bytes());
        data.extend_from_slice(self.task.as_bytes());
        data.extend_from_slice(&self.epoch.to_be_bytes());
        data.extend_from_slice(&self.payload.associated_data());
        data
    }
}
