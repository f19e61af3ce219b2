//! Sealed payloads: managers cannot open them, but their lengths tell.

use secretd_core::secret::SealedPayload;
use secretd_proto::limit::{AEAD_TAG_LENGTH, MAX_SECRET_LENGTH, WRAPPED_DEK_LENGTH};

/// Why a sealed payload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPayload {
    #[error("secret data has {length} bytes: it must have at least 1 and at most {MAX_SECRET_LENGTH} bytes")]
    Size { length: usize },
    #[error("the sealed payload has {ciphertext} bytes, which is not what {length} bytes of secret data give")]
    Length { length: usize, ciphertext: usize },
    #[error("the wrapped key has {have} bytes, it must have {WRAPPED_DEK_LENGTH}")]
    WrappedKey { have: usize },
}

/// Checks what is said of a payload against its lengths. The plaintext's length counts, whatever the request says.
pub(crate) fn check(length: u32, payload: &SealedPayload) -> Result<(), InvalidPayload> {
    let (said, ciphertext) = (length as usize, payload.ciphertext.len());
    let real = ciphertext.saturating_sub(AEAD_TAG_LENGTH);
    for length in [said, real] {
        if !(1..=MAX_SECRET_LENGTH).contains(&length) {
            return Err(InvalidPayload::Size { length });
        }
    }
    if said != real {
        return Err(InvalidPayload::Length { length: said, ciphertext });
    }
    match payload.wrapped_dek.len() {
        WRAPPED_DEK_LENGTH => Ok(()),
        have => Err(InvalidPayload::WrappedKey { have }),
    }
}
