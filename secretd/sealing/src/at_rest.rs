//! Records on a manager's disk: AES-256-GCM with the record's position as associated data.
//!
//! One node key seals any number of records, so a random 96-bit nonce alone would not do (its limit is 2^32 messages,
//! NIST SP 800-38D section 8.3). Each record has 192 random bits: the first 96 derive a key of its own (HMAC-SHA256 of
//! the node key), the other 96 are the nonce, as in the C2SP's XAES-256-GCM.
//!
//! A record says which of the node's data keys it is sealed under. A new one seals from the moment that it is there; the
//! older ones open what is left of theirs. One that is forgotten is wiped when nobody is left who may still meet a record
//! of it ([`Hold`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::RwLock;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Dek;
use crate::{NoRandomness, OpenError, SealError, gcm};

const FORMAT: u8 = 2;
const NUMBER: usize = 4;
const NONCES: usize = 24;

/// What a sealed record has more than its plaintext: format, number of the key, nonces, tag.
pub const OVERHEAD: usize = 1 + NUMBER + NONCES + gcm::TAG_LENGTH;

/// Seals and opens the records of one node. Clones share the keys, and have new ones at the same moment.
#[derive(Clone)]
pub struct Sealer(Arc<RwLock<Ring>>);

/// The newest key, and those before it of which records may be left.
struct Ring {
    newest: Arc<Keys>,
    older: Vec<Arc<Keys>>,
    /// Those that are there for as long as a [`Hold`] has them.
    forgotten: Vec<Weak<Keys>>,
}

/// Keeps every key that there is when it is taken, and every later one, for as long as it lives: for who reads records as
/// they were at one moment, or has records that nobody seals anew.
#[derive(Clone)]
pub struct Hold {
    _oldest: Arc<Keys>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold(..)")
    }
}

struct Keys {
    number: u32,
    /// Records that were sealed under it since it was opened.
    sealed: AtomicU64,
    record: Zeroizing<[u8; 32]>,
    index: Zeroizing<[u8; 32]>,
    /// The key after it: who holds one holds those that came later, too.
    next: OnceLock<Arc<Keys>>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// A sealer under one data key.
    pub fn new(node: &Dek) -> Self {
        Self::of(0, node)
    }

    /// A sealer under the data key of this number.
    pub fn of(number: u32, node: &Dek) -> Self {
        let newest = Arc::new(Keys::new(number, node));
        Self(Arc::new(RwLock::new(Ring { newest, older: Vec::new(), forgotten: Vec::new() })))
    }

    /// From now on `node` seals, and the keys so far open what they have sealed.
    pub fn begin(&self, number: u32, node: &Dek) {
        let mut ring = self.0.write();
        let newest = Arc::new(Keys::new(number, node));
        let before = std::mem::replace(&mut ring.newest, Arc::clone(&newest));
        before.next.get_or_init(|| newest);
        ring.older.push(before);
    }

    /// Nothing is sealed under the older keys any more that anybody will look for from now on. They are wiped when the last
    /// [`Hold`] on them ends.
    pub fn forget_older(&self) {
        let mut ring = self.0.write();
        let older = std::mem::take(&mut ring.older);
        ring.forgotten.retain(|keys| keys.strong_count() > 0);
        ring.forgotten.extend(older.iter().map(Arc::downgrade));
    }

    /// Keeps the keys of this moment, though they be forgotten.
    pub fn hold(&self) -> Hold {
        let ring = self.0.read();
        Hold { _oldest: Arc::clone(ring.older.first().unwrap_or(&ring.newest)) }
    }

    /// Whether a sealed record is under the newest key.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        let number = sealed.get(1..=NUMBER).and_then(|number| number.try_into().ok()).map(u32::from_be_bytes);
        number == Some(self.newest().number)
    }

    /// How many records the newest key has sealed since it was opened.
    pub fn sealed(&self) -> u64 {
        self.newest().sealed.load(Ordering::Relaxed)
    }

    fn newest(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().newest)
    }

    fn numbered(&self, number: u32) -> Option<Arc<Keys>> {
        let ring = self.0.read();
        let known = std::iter::once(&ring.newest).chain(&ring.older).find(|keys| keys.number == number).map(Arc::clone);
        known.or_else(|| ring.forgotten.iter().filter_map(Weak::upgrade).find(|keys| keys.number == number))
    }

    /// All keys that are not forgotten, the newest first.
    fn keys(&self) -> Vec<Arc<Keys>> {
        let ring = self.0.read();
        std::iter::once(&ring.newest).chain(ring.older.iter().rev()).map(Arc::clone).collect()
    }

    /// Seals a record for its position: table and key, in an encoding that no two positions share.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(&self, position: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonces = [0; NONCES];
        getrandom::fill(&mut nonces).map_err(|_| NoRandomness)?;
        let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD);
        let keys = self.newest();
        sealed.push(FORMAT);
        sealed.extend_from_slice(&keys.number.to_be_bytes());
        sealed.extend_from_slice(&nonces);
        sealed.extend_from_slice(plaintext);
        let (key, nonce) = keys.record_key(&nonces);
        let body = sealed.get_mut(1 + NUMBER + NONCES..).unwrap_or_default();
        let tag = gcm::seal(&key, &nonce, position, body).ok_or(SealError::Length)?;
        keys.sealed.fetch_add(1, Ordering::Relaxed);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens a record at its position.
    ///
    /// # Errors
    /// When position or bytes are not those that were sealed.
    pub fn open(&self, position: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (&format, rest) = sealed.split_first().ok_or(OpenError)?;
        let (number, rest) = rest.split_first_chunk::<NUMBER>().ok_or(OpenError)?;
        let (nonces, rest) = rest.split_first_chunk::<NONCES>().ok_or(OpenError)?;
        let (body, tag) = rest.split_last_chunk::<{ gcm::TAG_LENGTH }>().ok_or(OpenError)?;
        if format != FORMAT {
            return Err(OpenError);
        }
        let number = u32::from_be_bytes(*number);
        let keys = self.numbered(number).ok_or(OpenError)?;
        let (key, nonce) = keys.record_key(nonces);
        let mut plaintext = Zeroizing::new(body.to_vec());
        gcm::open(&key, &nonce, position, &mut plaintext, tag)?;
        Ok(plaintext)
    }

    /// A key for looking `name` up that tells nothing of it without the node's key. Domains do not collide.
    pub fn index(&self, domain: &str, name: &[u8]) -> [u8; 32] {
        self.newest().index(domain, name)
    }

    /// Whether `index` is that of `name` under any of the keys.
    pub fn is_index(&self, domain: &str, name: &[u8], index: &[u8]) -> bool {
        self.keys().iter().any(|keys| keys.index(domain, name).as_slice() == index)
    }
}

impl Keys {
    /// Records and indexes have keys of their own (HKDF-SHA256, RFC 5869).
    #[allow(clippy::expect_used)]
    fn new(number: u32, node: &Dek) -> Self {
        let derive = Hkdf::<Sha256>::new(None, node.expose());
        let key = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; 32]);
            // PANIC-FREE: HKDF-SHA256 gives up to 8,160 bytes, and this asks for 32.
            derive.expand(purpose, key.as_mut_slice()).expect("32 bytes are within HKDF's limit");
            key
        };
        let (record, index) = (key(b"secretd at rest: record"), key(b"secretd at rest: index"));
        Self { number, sealed: AtomicU64::new(0), record, index, next: OnceLock::new() }
    }

    fn index(&self, domain: &str, name: &[u8]) -> [u8; 32] {
        mac(&self.index, &[&(domain.len() as u64).to_be_bytes(), domain.as_bytes(), name])
    }

    fn record_key(&self, nonces: &[u8; NONCES]) -> (Zeroizing<[u8; 32]>, [u8; gcm::NONCE_LENGTH]) {
        let (of_key, of_record) = nonces.split_at(gcm::NONCE_LENGTH);
        let mut nonce = [0; gcm::NONCE_LENGTH];
        nonce.copy_from_slice(of_record);
        (Zeroizing::new(mac(&self.record, &[of_key])), nonce)
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

        assert_ne!(one[5..29], two[5..29]);
        assert_ne!(one[29..], two[29..]);
    }

    #[test]
    fn new_key_seals_at_once_for_every_clone_and_older_ones_open_until_they_are_forgotten() {
        let one = sealer();
        let other = one.clone();
        let old = one.seal(b"here", b"old").unwrap();
        let index = one.index("secret", b"psql-pw");
        assert!(one.is_newest(&old) && one.sealed() == 1);

        one.begin(1, &Dek::from_bytes(&[5; 32]));

        assert!(!other.is_newest(&old) && other.sealed() == 0);
        assert_eq!(other.open(b"here", &old).unwrap().as_slice(), b"old");
        assert!(other.is_index("secret", b"psql-pw", &index) && other.index("secret", b"psql-pw") != index);
        let new = other.seal(b"here", b"new").unwrap();
        assert!(one.is_newest(&new) && sealer().open(b"here", &new).is_err());
        one.forget_older();
        assert!(other.open(b"here", &old).is_err());
        assert!(!other.is_index("secret", b"psql-pw", &index));
        assert_eq!(other.open(b"here", &new).unwrap().as_slice(), b"new");
    }

    #[test]
    fn forgotten_keys_are_there_while_they_are_held_and_then_gone() {
        let sealer = sealer();
        let first = sealer.seal(b"here", b"first").unwrap();
        let hold = sealer.hold();
        sealer.begin(1, &Dek::from_bytes(&[5; 32]));
        let second = sealer.seal(b"here", b"second").unwrap();
        sealer.forget_older();
        sealer.begin(2, &Dek::from_bytes(&[6; 32]));
        sealer.forget_older();
        let late = sealer.hold();

        // The first hold has the key that was made after it, too.
        assert_eq!(sealer.open(b"here", &first).unwrap().as_slice(), b"first");
        assert_eq!(sealer.open(b"here", &second).unwrap().as_slice(), b"second");
        let kept: Vec<_> = sealer.0.read().forgotten.clone();
        assert_eq!(kept.iter().filter(|keys| keys.strong_count() > 0).count(), 2);
        drop(hold);
        assert!(sealer.open(b"here", &first).is_err() && sealer.open(b"here", &second).is_err());
        assert!(kept.iter().all(|keys| keys.strong_count() == 0), "they are wiped");
        drop(late);
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
