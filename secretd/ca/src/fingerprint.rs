//! What a certificate is known by: the digest of all its bytes, which nobody can give to another one, and the serial
//! number, which people read.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::identity::{CertificateError, parse};

/// The SHA-256 of a certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits")]
pub struct ParseFingerprintError;

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// One that was taken before.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;
    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(ParseFingerprintError);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits =
                text.get(2 * at..2 * at + 2).filter(|digits| !digits.starts_with('+')).ok_or(ParseFingerprintError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ParseFingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

/// The serial number in hexadecimal digits, as `openssl x509 -serial` has it, in small letters.
///
/// # Errors
/// When it is no certificate.
pub fn serial(certificate: &CertificateDer<'_>) -> Result<String, CertificateError> {
    let parsed = parse(certificate)?;
    let digits: String = parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_comes_back_from_its_text() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(vec![1, 2, 3]));

        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for text in ["", "00", &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(text.parse::<Fingerprint>(), Err(ParseFingerprintError), "{text}");
        }
    }
}
