//! X25519 key pairs (RFC 7748): the cluster's, to which clients wrap data keys, and one for each run of secret-fs.

use std::fmt;

use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, Serializable};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::NoRandomness;

/// Bytes that are no public key: not 32 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key has 32 bytes")]
pub struct ParseKeyError;

/// The public half, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key as it came over the wire.
    ///
    /// # Errors
    /// When there are not exactly 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseKeyError> {
        Ok(Self(bytes.try_into().map_err(|_| ParseKeyError)?))
    }

    /// As it goes over the wire.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    pub(crate) fn to_hpke(self) -> Option<<X25519HkdfSha256 as Kem>::PublicKey> {
        Deserializable::from_bytes(&self.0).ok()
    }
}

/// The private half. Not `Clone`; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

impl PrivateKey {
    /// A fresh key from the system's random source.
    ///
    /// # Errors
    /// When there is none.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self(*bytes)) // X25519 clamps a scalar where it is used (RFC 7748, section 5): any 32 bytes are a key.
    }

    /// A key that was made before.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The key, to be sealed and kept.
    pub fn expose_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let public = X25519HkdfSha256::sk_to_pk(&self.to_hpke());
        let mut bytes = [0; 32];
        public.write_exact(&mut bytes);
        PublicKey(bytes)
    }

    #[allow(clippy::expect_used)]
    pub(crate) fn to_hpke(&self) -> <X25519HkdfSha256 as Kem>::PrivateKey {
        // PANIC-FREE: any 32 bytes are an X25519 private key, and there are 32.
        Deserializable::from_bytes(&self.0).expect("32 bytes are a private key")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}
