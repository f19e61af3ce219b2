//! Join tokens: `SCTL-1-<digest of the root certificate>-<secret>`.
//!
//! The digest lets a node that knows nothing of the cluster but the token be sure that it speaks to it; the secret shows
//! the cluster that the node may join, and as what.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

const PREFIX: &str = "SCTL-1-";
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Digits of 32 bytes, and of 16, in base 36.
const DIGEST_LENGTH: usize = 50;
const SECRET_LENGTH: usize = 25;

/// Why a text is no join token. The token itself is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// It begins otherwise.
    #[error("a join token begins with `SCTL-1-`: copy the whole token from `sctl cluster join-token`")]
    Prefix,
    /// It is too short or too long.
    #[error(
        "a join token has {expected} characters, this one has {found}: copy the whole token from `sctl cluster join-token`"
    )]
    Length {
        /// Of this one.
        found: usize,
        /// Of every one.
        expected: usize,
    },
    /// A character is none of those that tokens have.
    #[error("a join token has digits, small letters and dashes alone: copy it again from `sctl cluster join-token`")]
    Character,
}

/// The SHA-256 of a root certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootDigest([u8; 32]);

impl RootDigest {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// One that was taken before.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be kept.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is a certificate's, in constant time.
    pub fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.ct_eq(&Self::of(certificate).0).into()
    }
}

impl fmt::Display for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0, DIGEST_LENGTH))
    }
}

impl fmt::Debug for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What shows that a node may join: 128 random bits. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenSecret([u8; 16]);

impl TokenSecret {
    /// A fresh one.
    ///
    /// # Errors
    /// When the system has no random source.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// One that was made before.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret, to be sealed and kept, or to be shown to the cluster.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// A join token.
#[derive(Debug, Clone)]
pub struct JoinToken {
    /// Of the root certificate that the cluster's managers must show.
    pub root: RootDigest,
    /// What shows that the node may join.
    pub secret: TokenSecret,
}

impl JoinToken {
    /// The token, as operators copy it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}-{}", self.root, encode(&self.secret.0, SECRET_LENGTH))
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;
    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        const LENGTH: usize = PREFIX.len() + DIGEST_LENGTH + 1 + SECRET_LENGTH;
        let rest = text.strip_prefix(PREFIX).ok_or(ParseTokenError::Prefix)?;
        if text.len() != LENGTH {
            return Err(ParseTokenError::Length { found: text.chars().count(), expected: LENGTH });
        }
        let (root, secret) = rest.split_once('-').ok_or(ParseTokenError::Character)?;
        if root.len() != DIGEST_LENGTH {
            return Err(ParseTokenError::Character);
        }
        let root = decode::<32>(root).ok_or(ParseTokenError::Character)?;
        let secret = decode::<16>(secret).ok_or(ParseTokenError::Character)?;
        Ok(Self { root: RootDigest(root), secret: TokenSecret(secret) })
    }
}

/// A number of any length in base 36, with leading zeros.
fn encode(bytes: &[u8], length: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; length];
    for place in text.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = remainder * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(0);
            remainder = value % 36;
        }
        *place = usize::try_from(remainder).ok().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'0');
    }
    number.zeroize();
    text.into_iter().map(char::from).collect()
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut number = [0_u8; N];
    for digit in text.bytes() {
        let digit = DIGITS.iter().position(|known| *known == digit)?;
        let mut carry = u32::try_from(digit).ok()?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = u8::try_from(value % 256).ok()?;
            carry = value / 256;
        }
        if carry > 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn token_comes_back_from_its_text(root: [u8; 32], secret: [u8; 16]) {
            let token = JoinToken { root: RootDigest(root), secret: TokenSecret(secret) };

            let text = token.expose();
            let back: JoinToken = text.parse().unwrap();

            prop_assert_eq!(text.len(), 83);
            prop_assert_eq!(back.root, token.root);
            prop_assert_eq!(back.secret.0, token.secret.0);
            let shown = format!("{token:?}");
            prop_assert!(!shown.contains(&encode(&secret, SECRET_LENGTH)));
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let good = JoinToken { root: RootDigest([1; 32]), secret: TokenSecret([2; 16]) }.expose();
        let upper = good.replacen("SCTL-1-", "", 1).to_uppercase();
        for (text, expected) in [
            ("", ParseTokenError::Prefix),
            ("SWMTKN-1-abc-def", ParseTokenError::Prefix),
            (&good[..82], ParseTokenError::Length { found: 82, expected: 83 }),
            (&format!("SCTL-1-{upper}"), ParseTokenError::Character),
            (&format!("SCTL-1-{}", "z".repeat(76)), ParseTokenError::Character),
            (&format!("SCTL-1-{}-{}", "z".repeat(50), "z".repeat(25)), ParseTokenError::Character),
        ] {
            assert_eq!(text.parse::<JoinToken>().unwrap_err(), expected, "{text}");
        }
    }
}
