//! Certificates and keys as text (RFC 7468): what `sctl` keeps in files for operators.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::key::{KeyError, NodeKey};

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no certificate in it.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// There is no key in it.
    #[error("there is no private key in it (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// The key is none that we use.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A certificate as text.
pub fn certificate_to_pem(certificate: &CertificateDer<'_>) -> String {
    block("CERTIFICATE", certificate)
}

/// A key as text.
pub fn key_to_pem(key: &NodeKey) -> Zeroizing<String> {
    Zeroizing::new(key.0.serialize_pem())
}

/// The certificates of a text, at least one.
///
/// # Errors
/// When there is none.
pub fn certificates_of_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    found.ok().filter(|found| !found.is_empty()).ok_or(PemError::NoCertificate)
}

/// The key of a text.
///
/// # Errors
/// When there is none on P-256 in PKCS #8.
pub fn key_of_pem(text: &[u8]) -> Result<NodeKey, PemError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| PemError::NoKey)?;
    Ok(NodeKey::from_pkcs8(key.secret_pkcs8_der())?)
}

fn block(label: &str, bytes: &[u8]) -> String {
    const LINE: usize = 48; // bytes of 64 characters
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in bytes.chunks(LINE) {
        text.push_str(&base64(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |value: u32| DIGITS.get((value & 63) as usize).copied().map_or('A', char::from);
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let value = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digits = [digit(value >> 18), digit(value >> 12), digit(value >> 6), digit(value)];
        let kept = group.len() + 1;
        text.extend(digits.iter().take(kept));
        text.extend(std::iter::repeat_n('=', 4 - kept));
    }
    text
}

#[cfg(test)]
mod tests {
    use secretd_core::time::Timestamp;
    use secretd_proto::id::ClusterId;

    use super::*;
    use crate::authority::Authority;

    #[test]
    fn certificates_and_keys_come_back_from_their_text() {
        let cluster = ClusterId::from_random([1; 16]);
        let authority = Authority::generate(cluster, Timestamp(1_800_000_000_000_000_000)).unwrap();
        let key = NodeKey::generate().unwrap();
        let text = format!("{}{}", certificate_to_pem(authority.certificate()), *key_to_pem(&key));

        assert_eq!(certificates_of_pem(text.as_bytes()).unwrap(), [authority.certificate().clone()]);
        assert_eq!(key_of_pem(text.as_bytes()).unwrap().expose_pkcs8(), key.expose_pkcs8());
        assert_eq!(certificates_of_pem(b"nothing").unwrap_err(), PemError::NoCertificate);
        assert_eq!(key_of_pem(b"nothing").unwrap_err(), PemError::NoKey);
    }
}
