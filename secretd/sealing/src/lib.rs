//! Sealing: what holds key material and plaintext, and every envelope that protects them.
//!
//! Reading order: [`secret`] and [`key`] (the types that hold what must not leak), [`binding`] (what an envelope is tied
//! to), [`envelope`] (data keys, wrapped with HPKE), [`payload`] (payloads, sealed with AES-256-GCM), and for managers'
//! disks [`at_rest`], and behind the feature `node-keys`, which secret-fs does without, `node_keys` over `kek`, and
//! `backup`.
//!
//! Who uses what: `sctl` seals payloads; managers re-wrap data keys and seal their records; secret-fs opens grants and
//! payloads. Only `sctl` and secret-fs name [`secret::SecretBytes`] or call [`payload::open_into`].
//!
//! Deliberately absent: IO, except in `node_keys`, which reads and writes two small files.

pub mod at_rest;
#[cfg(feature = "node-keys")]
pub mod backup;
pub mod binding;
pub mod envelope;
mod gcm;
#[cfg(feature = "node-keys")]
pub mod kek;
pub mod key;
#[cfg(feature = "node-keys")]
pub mod node_keys;
pub mod payload;
mod printed;
pub mod secret;
pub mod unlock_key;

/// The system gave no random bytes: nothing can be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random source: is /dev/urandom there?")]
pub struct NoRandomness;

/// Why an envelope did not open. Deliberately one reason: which check failed is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seal is broken: another key, another place, or changed bytes")]
pub struct OpenError;

/// Why something could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The length is not the one that the binding names, or beyond what the cipher takes.
    #[error("the length is not the one that the seal is bound to")]
    Length,
    /// The recipient's public key is none (a point of low order).
    #[error("the recipient's public key is not usable")]
    Key,
}
