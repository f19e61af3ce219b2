//! The key to which grants are wrapped: made at each start, kept in secret memory, never written anywhere.

use secretd_proto::fs::{Grant, Refusal};
use secretd_sealing::binding::GrantBinding;
use secretd_sealing::envelope::open_grant;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::Dek;
use secretd_sys::secret_memory::{MapError, Protection, SecretMapping};
use zeroize::Zeroizing;

use crate::payload::wipe_stack_below;

/// Why there is no key, and so no service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeKeyError {
    #[error("the system gives no random bytes for a key")]
    Random(#[source] secretd_sealing::NoRandomness),
    #[error("there is no memory for a key")]
    Memory(#[source] MapError),
}

/// The X25519 key of this run.
#[derive(Debug)]
pub(crate) struct NodeKey {
    private: SecretMapping,
    public: [u8; 32],
}

impl NodeKey {
    /// A fresh key.
    ///
    /// # Errors
    /// See [`MakeKeyError`].
    pub(crate) fn generate(memory: Protection) -> Result<Self, MakeKeyError> {
        let key = Self::generate_above(memory);
        wipe_stack_below();
        key
    }

    #[inline(never)]
    fn generate_above(memory: Protection) -> Result<Self, MakeKeyError> {
        let key = PrivateKey::generate().map_err(MakeKeyError::Random)?;
        let mut private = SecretMapping::new(32, memory).map_err(MakeKeyError::Memory)?;
        private.expose_mut().copy_from_slice(key.expose_bytes().as_slice());
        Ok(Self { private, public: key.public().to_bytes() })
    }

    /// The key that managers wrap grants to.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Opens the data key of one grant. The caller wipes the stack when it is done with the key.
    ///
    /// # Errors
    /// [`Refusal::BrokenSeal`] when it was wrapped to another key or for anything else than this binding.
    #[inline(never)]
    pub(crate) fn open(&self, grant: &Grant, binding: &GrantBinding) -> Result<Dek, Refusal> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.private.copy_out(0, bytes.as_mut_slice());
        let private = PrivateKey::from_bytes(&bytes);
        open_grant(&grant.wrapped_dek, &private, binding).map_err(|_| Refusal::BrokenSeal(grant.secret, grant.version))
    }
}
