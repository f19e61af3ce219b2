//! Data keys in HPKE envelopes (RFC 9180, base mode): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! A wrapped key is the encapsulated key (32 bytes), the encrypted key (32) and the tag (16). Clients wrap to the
//! cluster, managers re-wrap to a node's secret-fs, and secret-fs opens. The two directions have different `info`, so
//! neither envelope passes for the other.

use hpke::aead::{AeadTag, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use secretd_proto::limit::WRAPPED_DEK_LENGTH;
use zeroize::Zeroizing;

use crate::binding::{GrantBinding, PayloadBinding};
use crate::key::{PrivateKey, PublicKey};
use crate::secret::Dek;
use crate::{OpenError, SealError};

const INFO_CLUSTER: &[u8] = b"secretd 1 client to cluster";
const INFO_GRANT: &[u8] = b"secretd 1 cluster to node";

/// Wraps the key of a payload to the cluster.
///
/// # Errors
/// When there is no randomness, or `cluster` is no usable key.
pub fn wrap_for_cluster(dek: &Dek, binding: &PayloadBinding, cluster: &PublicKey) -> Result<Vec<u8>, SealError> {
    wrap(dek, cluster, INFO_CLUSTER, &binding.associated_data())
}

/// Opens a key that a client wrapped to the cluster and wraps it again for one grant. The key is in this process for
/// the moment of this call, and the payload never.
///
/// # Errors
/// When the envelope does not open (then nothing is known of why), or the node's key is not usable.
pub fn rewrap(
    wrapped: &[u8],
    cluster: &PrivateKey,
    binding: &GrantBinding,
    node: &PublicKey,
) -> Result<Vec<u8>, RewrapError> {
    let dek = unwrap(wrapped, cluster, INFO_CLUSTER, &binding.payload.associated_data())?;
    Ok(wrap(&dek, node, INFO_GRANT, &binding.associated_data())?)
}

/// Opens the key of a grant: in secret-fs.
///
/// # Errors
/// When any part of the binding or of the bytes is not what was sealed.
pub fn open_grant(wrapped: &[u8], node: &PrivateKey, binding: &GrantBinding) -> Result<Dek, OpenError> {
    unwrap(wrapped, node, INFO_GRANT, &binding.associated_data())
}

/// Why a key could not be wrapped again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewrapError {
    /// The client's envelope.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The node's envelope.
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn wrap(dek: &Dek, to: &PublicKey, info: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, SealError> {
    let to = to.to_hpke().ok_or(SealError::Key)?;
    let mut buffer = Zeroizing::new(*dek.expose());
    let (encapsulated, tag) = hpke::single_shot_seal_inout_detached::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        info,
        buffer.as_mut_slice().into(),
        associated_data,
    )
    .map_err(|_| SealError::Key)?;

    let mut wrapped = Vec::with_capacity(WRAPPED_DEK_LENGTH);
    wrapped.extend_from_slice(&encapsulated.to_bytes());
    wrapped.extend_from_slice(buffer.as_slice());
    wrapped.extend_from_slice(&tag.to_bytes());
    Ok(wrapped)
}

fn unwrap(wrapped: &[u8], by: &PrivateKey, info: &[u8], associated_data: &[u8]) -> Result<Dek, OpenError> {
    let wrapped: &[u8; WRAPPED_DEK_LENGTH] = wrapped.try_into().map_err(|_| OpenError)?;
    let (encapsulated, rest) = wrapped.split_at(32);
    let (key, tag) = rest.split_at(32);
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| OpenError)?;
    let tag = AeadTag::<AesGcm256>::from_bytes(tag).map_err(|_| OpenError)?;
    let mut buffer = Zeroizing::new([0; 32]);
    buffer.copy_from_slice(key);
    hpke::single_shot_open_inout_detached::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &by.to_hpke(),
        &encapsulated,
        info,
        buffer.as_mut_slice().into(),
        associated_data,
        &tag,
    )
    .map_err(|_| OpenError)?;
    Ok(Dek::from_bytes(&buffer))
}

#[cfg(test)]
mod tests;
