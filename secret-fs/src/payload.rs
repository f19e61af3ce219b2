//! The payloads that this process holds: ciphertext that waits for a grant, and one plaintext of each version.
//!
//! A plaintext lives as long as a task's file or an open handle refers to it, and is wiped with the last of them. A
//! later grant of a version that is already open must bring the same data key, which is compared in constant time.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use secretd_proto::fs::Refusal;
use secretd_proto::id::SecretId;
use secretd_proto::limit::MAX_SECRET_LENGTH;
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::payload::open_into;
use secretd_sealing::secret::Dek;
use secretd_sys::secret_memory::{MapError, Protection, SecretMapping, wipe};
use subtle::ConstantTimeEq;

/// One decrypted version, in memory of its own, with its data key behind it.
#[derive(Debug)]
pub(crate) struct Payload {
    binding: PayloadBinding,
    mapping: SecretMapping,
}

impl Payload {
    /// Decrypts into fresh secret memory.
    fn open(dek: &Dek, binding: &PayloadBinding, ciphertext: &[u8], memory: Protection) -> Result<Self, Refusal> {
        let broken = || Refusal::BrokenSeal(binding.secret, binding.version);
        let length = usize::try_from(binding.length).ok().filter(|length| *length <= MAX_SECRET_LENGTH);
        let length = length.filter(|length| *length > 0).ok_or_else(broken)?;
        let mut mapping = SecretMapping::new(length + DEK_LENGTH, memory).map_err(|error| match error {
            MapError::Length(_) | MapError::Unavailable(_) | MapError::Memory { .. } => {
                Refusal::NoMemory(u64::from(binding.length))
            }
        })?;
        let (plaintext, key) = mapping.expose_mut().split_at_mut(length);
        open_into(dek, binding, ciphertext, plaintext).map_err(|_| broken())?;
        key.copy_from_slice(dek.expose());
        Ok(Self { binding: binding.clone(), mapping })
    }

    /// Bytes of plaintext.
    pub(crate) fn len(&self) -> usize {
        self.mapping.len() - DEK_LENGTH
    }

    /// Copies plaintext from `offset` into `out`, as much as there is and as fits; gives the count of bytes.
    pub(crate) fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        let wanted = self.len().saturating_sub(offset).min(out.len());
        self.mapping.copy_out(offset, &mut out[..wanted])
    }

    fn is_opened_by(&self, dek: &Dek, binding: &PayloadBinding) -> bool {
        let key = &self.mapping.expose()[self.len()..];
        self.binding == *binding && bool::from(key.ct_eq(dek.expose()))
    }
}

/// Every payload, by secret and version.
#[derive(Debug)]
pub(crate) struct Payloads {
    memory: Protection,
    entries: HashMap<(SecretId, u64), Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    ciphertext: Option<Vec<u8>>,
    opened: Weak<Payload>,
}

impl Payloads {
    pub(crate) fn new(memory: Protection) -> Self {
        Self { memory, entries: HashMap::new() }
    }

    /// Keeps a ciphertext until a grant opens it. One whose plaintext is held already is not needed and is dropped.
    pub(crate) fn store(&mut self, secret: SecretId, version: u64, ciphertext: Vec<u8>) {
        let entry = self.entries.entry((secret, version)).or_default();
        if entry.opened.strong_count() == 0 {
            entry.ciphertext = Some(ciphertext);
        }
    }

    /// Drops a ciphertext; a plaintext stays while it is used.
    pub(crate) fn forget(&mut self, secret: SecretId, version: u64) {
        if let Some(entry) = self.entries.get_mut(&(secret, version)) {
            entry.ciphertext = None;
        }
        self.drop_unused();
    }

    /// Drops the records of plaintexts that nobody uses any more.
    pub(crate) fn drop_unused(&mut self) {
        self.entries.retain(|_, entry| entry.ciphertext.is_some() || entry.opened.strong_count() > 0);
    }

    /// The plaintext of one version for the holder of its data key: the one that is held, or a new one. Changes
    /// nothing here until [`Payloads::keep`].
    ///
    /// # Errors
    /// [`Refusal::NotStored`], [`Refusal::BrokenSeal`] or [`Refusal::NoMemory`].
    pub(crate) fn open(&self, dek: &Dek, binding: &PayloadBinding) -> Result<Arc<Payload>, Refusal> {
        let entry = self.entries.get(&(binding.secret, binding.version));
        if let Some(payload) = entry.and_then(|entry| entry.opened.upgrade()) {
            return Self::again(payload, dek, binding);
        }
        let ciphertext = entry
            .and_then(|entry| entry.ciphertext.as_ref())
            .ok_or(Refusal::NotStored(binding.secret, binding.version))?;
        Payload::open(dek, binding, ciphertext, self.memory).map(Arc::new)
    }

    /// A plaintext that is held, for another grant of the same version.
    ///
    /// # Errors
    /// [`Refusal::BrokenSeal`] when the grant's key or binding is not the one that opened it.
    pub(crate) fn again(payload: Arc<Payload>, dek: &Dek, binding: &PayloadBinding) -> Result<Arc<Payload>, Refusal> {
        if payload.is_opened_by(dek, binding) {
            Ok(payload)
        } else {
            Err(Refusal::BrokenSeal(binding.secret, binding.version))
        }
    }

    /// Remembers an opened plaintext, whose ciphertext is then of no more use.
    pub(crate) fn keep(&mut self, payload: &Arc<Payload>) {
        let entry = self.entries.entry((payload.binding.secret, payload.binding.version)).or_default();
        entry.ciphertext = None;
        entry.opened = Arc::downgrade(payload);
    }

    /// Bytes of plaintext held.
    pub(crate) fn bytes(&self) -> u64 {
        let held = self.entries.values().filter_map(|entry| entry.opened.upgrade());
        held.map(|payload| payload.len() as u64).sum()
    }
}

/// Overwrites the part of the stack below the caller, where opening an envelope has left copies of keys that no
/// destructor reaches.
#[inline(never)]
pub(crate) fn wipe_stack_below() {
    let mut below = [0xff_u8; STACK_WIPED];
    std::hint::black_box(&mut below);
    wipe(&mut below);
}

const DEK_LENGTH: usize = 32;
const STACK_WIPED: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use secretd_proto::id::ClusterId;
    use secretd_sealing::binding::GrantBinding;
    use secretd_sealing::envelope;
    use secretd_sealing::key::PrivateKey;
    use secretd_sealing::payload::{Sealed, seal};
    use secretd_sealing::secret::SecretBytes;

    use super::*;

    fn sealed(text: &[u8]) -> (Sealed, Dek, PayloadBinding) {
        let binding = PayloadBinding {
            cluster: ClusterId::random(),
            secret: SecretId::random(),
            version: 1,
            name: "pw".parse().unwrap(),
            length: u32::try_from(text.len()).unwrap(),
        };
        let (cluster, node) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let sealed = seal(&SecretBytes::new(text.to_vec()), &binding, &cluster.public()).unwrap();
        let grant = GrantBinding {
            payload: binding.clone(),
            node: secretd_proto::id::NodeId::random(),
            task: secretd_proto::id::TaskId::random(),
            epoch: 1,
        };
        let wrapped = envelope::rewrap(&sealed.wrapped_dek, &cluster, &grant, &node.public()).unwrap();
        let dek = envelope::open_grant(&wrapped, &node, &grant).unwrap();
        (sealed, dek, binding)
    }

    #[test]
    fn second_grant_shares_the_plaintext_and_needs_the_same_key() {
        let (sealed, dek, binding) = sealed(b"hunter2");
        let mut payloads = Payloads::new(Protection::Locked);
        assert_eq!(payloads.open(&dek, &binding).unwrap_err(), Refusal::NotStored(binding.secret, 1));
        payloads.store(binding.secret, 1, sealed.ciphertext);
        let first = payloads.open(&dek, &binding).unwrap();
        payloads.keep(&first);

        let second = payloads.open(&dek, &binding).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let wrong_key = payloads.open(&Dek::from_bytes(&[1; 32]), &binding);
        assert_eq!(wrong_key.unwrap_err(), Refusal::BrokenSeal(binding.secret, 1));
        let other = PayloadBinding { name: "px".parse().unwrap(), ..binding.clone() };
        assert_eq!(payloads.open(&dek, &other).unwrap_err(), Refusal::BrokenSeal(binding.secret, 1));
        assert_eq!(payloads.bytes(), 7);
    }

    #[test]
    fn plaintext_goes_with_its_last_user() {
        let (sealed, dek, binding) = sealed(b"hunter2");
        let mut payloads = Payloads::new(Protection::Locked);
        payloads.store(binding.secret, 1, sealed.ciphertext);
        let payload = payloads.open(&dek, &binding).unwrap();
        payloads.keep(&payload);
        payloads.forget(binding.secret, 1);
        assert_eq!(payloads.bytes(), 7);

        drop(payload);
        payloads.drop_unused();

        assert_eq!(payloads.bytes(), 0);
        assert_eq!(payloads.open(&dek, &binding).unwrap_err(), Refusal::NotStored(binding.secret, 1));
    }

    #[test]
    fn reads_end_where_the_plaintext_ends() {
        let (sealed, dek, binding) = sealed(b"hunter2");
        let payload = Payload::open(&dek, &binding, &sealed.ciphertext, Protection::Locked).unwrap();
        let mut out = [0; 100];
        for (offset, want) in [(0, &b"hunter2"[..]), (5, b"r2"), (7, b""), (8, b""), (usize::MAX, b"")] {
            let count = payload.copy_out(offset, &mut out);
            assert_eq!(&out[..count], want, "{offset}");
        }
    }
}
