//! Records on a manager's disk: AES-256-GCM with the record's position as associated data.
//!
//! One node key seals any number of records, so a random 96-bit nonce alone would not do (its limit is 2^32 messages,
//! NIST SP 800-38D section 8.3). Each record has 192 random bits: the first 96 derive a key of its own (HMAC-SHA256 of
//! the node key), the other 96 are the nonce, as in the C2SP's XAES-256-GCM.

use std::fmt;
use std::sync::Arc;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Dek;
use crate::{NoRandomness, OpenError, SealError, gcm};

const FORMAT: u8 = 1;
const NONCES: usize = 24;

/// What a sealed record has more than its plaintext: format, nonces, tag.
pub const OVERHEAD: usize = 1 + NONCES + gcm::TAG_LENGTH;

/// Seals and opens the records of one node. Clones share the keys.
#[derive(Clone)]
pub struct Sealer(Arc<Keys>);

struct Keys {
    record: Zeroizing<[u8; 32]>,
    index: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// A sealer under the node's data key. Records and indexes have keys of their own (HKDF-SHA256, RFC 5869).
    #[allow(clippy::expect_used)]
    pub fn new(node: &Dek) -> Self {
        let derive = Hkdf::<Sha256>::new(None, node.expose());
        let key = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            // PANIC-FREE: HKDF-SHA256 gives up to 8,160 bytes, and this asks for 32.
            derive.expand(purpose, key.as_mut_slice()).expect("32 bytes are within HKDF's limit");
            key
        };
        Self(Arc::new(Keys { record: key(b"secretd at rest: record"), index: key(b"secretd at rest: index") }))
    }

    /// Seals a record for its position: table and key, in an encoding that no two positions share.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(&self, position: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonces = [0; NONCES];
        getrandom::fill(&mut nonces).map_err(|_| NoRandomness)?;
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonces);
        sealed.extend_from_slice(plaintext);
        let (key, nonce) = self.record_key(&nonces);
        let body = sealed.get_mut(1 + NONCES..).unwrap_or_default();
        let tag = gcm::seal(&key, &nonce, position, body).ok_or(SealError::Length)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens a record at its position.
    ///
    /// # Errors
    /// When position or bytes are not those that were sealed.
    pub fn open(&self, position: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (&format, rest) = sealed.split_first().ok_or(OpenError)?;
        let (nonces, rest) = rest.split_first_chunk::<NONCES>().ok_or(OpenError)?;
        let (body, tag) = rest.split_last_chunk::<{ gcm::TAG_LENGTH }>().ok_or(OpenError)?;
        if format != FORMAT {
            return Err(OpenError);
        }
        let (key, nonce) = self.record_key(nonces);
        let mut plaintext = Zeroizing::new(body.to_vec());
        gcm::open(&key, &nonce, position, &mut plaintext, tag)?;
        Ok(plaintext)
    }

    /// A key for looking `name` up that tells nothing of it without the node's key. Domains do not collide.
    pub fn index(&self, domain: &str, name: &[u8]) -> [u8; 32] {
        mac(&self.0.index, &[&(domain.len() as u64).to_be_bytes(), domain.as_bytes(), name])
    }

    fn record_key(&self, nonces: &[u8; NONCES]) -> (Zeroizing<[u8; 32]>, [u8; gcm::NONCE_LENGTH]) {
        let (of_key, of_record) = nonces.split_at(gcm::NONCE_LENGTH);
        let mut nonce = [0; gcm::NONCE_LENGTH];
        nonce.copy_from_slice(of_record);
        (Zeroizing::new(mac(&self.0.record, &[of_key])), nonce)
    }
}

#[allow(clippy::expect_used)]
fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // PANIC-FREE: HMAC takes a key of any length (RFC 2104).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&Dek::from_bytes(&[3; 32]))
    }

    proptest! {
        #[test]
        fn record_opens_at_its_position_alone(
            position in prop::collection::vec(any::<u8>(), 0..40),
            other in prop::collection::vec(any::<u8>(), 0..40),
            plaintext in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            prop_assume!(position != other);
            let sealed = sealer().seal(&position, &plaintext).unwrap();

            prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
            prop_assert_eq!(&*sealer().open(&position, &sealed).unwrap(), &plaintext);
            prop_assert!(sealer().open(&other, &sealed).is_err());
            prop_assert!(Sealer::new(&Dek::from_bytes(&[4; 32])).open(&position, &sealed).is_err());
        }

        #[test]
        fn any_changed_bit_or_cut_is_refused(at in 0_usize..(30 + OVERHEAD) * 8) {
            let mut sealed = sealer().seal(b"here", &[9; 30]).unwrap();

            prop_assert!(sealer().open(b"here", &sealed[..at / 8]).is_err());
            sealed[at / 8] ^= 1 << (at % 8);
            prop_assert!(sealer().open(b"here", &sealed).is_err());
        }
    }

    #[test]
    fn one_record_sealed_twice_shares_no_byte_of_nonce_or_ciphertext() {
        let (one, two) = (sealer().seal(b"", &[0; 64]).unwrap(), sealer().seal(b"", &[0; 64]).unwrap());

        assert_ne!(one[1..25], two[1..25]);
        assert_ne!(one[25..], two[25..]);
    }

    #[test]
    fn indexes_depend_on_key_domain_and_name() {
        let index = sealer().index("secret", b"psql-pw");

        assert_eq!(index, sealer().index("secret", b"psql-pw"));
        assert_ne!(index, sealer().index("service", b"psql-pw"));
        assert_ne!(index, sealer().index("secretp", b"sql-pw"));
        assert_ne!(index, Sealer::new(&Dek::from_bytes(&[4; 32])).index("secret", b"psql-pw"));
    }
}
