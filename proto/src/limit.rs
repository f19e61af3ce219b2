//! Limits that more than one process checks.

/// The largest secret, in bytes of plaintext. Exactly this many are accepted.
pub const MAX_SECRET_LENGTH: usize = 512_000;

/// What AES-256-GCM adds to a plaintext: its tag.
pub const AEAD_TAG_LENGTH: usize = 16;

/// The length of a data key wrapped with HPKE: 32 bytes of encapsulated key, 32 of data key, 16 of tag.
pub const WRAPPED_DEK_LENGTH: usize = 80;

/// The largest gRPC message, in bytes: a few sealed payloads.
pub const MAX_MESSAGE_LENGTH: usize = 16 * 1024 * 1024;

/// The largest frame on a local socket (secret-fs, shim), in bytes.
pub const MAX_FRAME_LENGTH: usize = 4 * 1024 * 1024;
