//! Secrets as managers know them: metadata here, the sealed payload apart.

use std::collections::BTreeMap;
use std::fmt;

use secretd_proto::id::SecretId;
use secretd_proto::name::SecretName;

use crate::time::Meta;

/// What a user says of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Unique in the cluster.
    pub name: SecretName,
    /// Free text of users.
    pub labels: BTreeMap<String, String>,
}

/// Counts the payloads of one secret, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(pub u64);

/// Metadata of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Chosen by the client, because the seal is bound to it.
    pub id: SecretId,
    /// When, and as which accepted change.
    pub meta: Meta,
    /// Name and labels.
    pub spec: SecretSpec,
    /// The newest payload.
    pub version: SecretVersion,
    /// Bytes of plaintext of the newest payload.
    pub length: u32,
}

/// The sealed payload of one version. Managers cannot open it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPayload {
    /// AES-256-GCM, plaintext length plus tag.
    pub ciphertext: Vec<u8>,
    /// HPKE to the cluster's sealing key.
    pub wrapped_dek: Vec<u8>,
}

impl fmt::Debug for SealedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedPayload({} bytes)", self.ciphertext.len())
    }
}
