//! A node's or operator's own key: ECDSA on P-256 (FIPS 186-5), made where it is used, never sent.

use std::fmt;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

/// A key could not be made, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the private key is not usable: {0}")]
pub struct KeyError(String);

/// A private key. Not `Clone`; wiped when dropped.
pub struct NodeKey(pub(crate) KeyPair);

impl Drop for NodeKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn unusable(error: rcgen::Error) -> KeyError {
    KeyError(error.to_string())
}

impl NodeKey {
    /// A fresh key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(unusable)
    }

    /// A key that was made before, in PKCS #8.
    ///
    /// # Errors
    /// When it is none on P-256.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(der);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map(Self).map_err(unusable)
    }

    /// The key, to be sealed and kept: PKCS #8.
    pub fn expose_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// A request for a certificate (PKCS #10, RFC 2986). It names nobody: who the certificate is for is not the
    /// requester's to say.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let params = CertificateParams::default();
        params.serialize_request(&self.0).map(|request| request.der().to_vec()).map_err(unusable)
    }

    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}
