//! The one buffer through which plaintext leaves secret memory: locked, left out of core files, wiped after each use.
//!
//! The kernel cannot take a reply from `memfd_secret` pages (EFAULT), so a copy in ordinary memory must exist while a
//! reply is written. There is one such place in the process, and it is empty between two reads.

use parking_lot::Mutex;
use secretd_proto::limit::MAX_SECRET_LENGTH;
use secretd_sys::secret_memory::{MapError, Protection, SecretMapping, wipe};

use crate::payload::Payload;

/// The buffer. Leaf lock: nothing else is locked while it is held.
#[derive(Debug)]
pub(crate) struct Bounce(Mutex<SecretMapping>);

impl Bounce {
    /// A buffer for the largest secret, and whether it is in locked memory: the limits may allow none.
    ///
    /// # Errors
    /// When there is no memory at all.
    pub(crate) fn new() -> Result<(Self, bool), MapError> {
        let of = |map| Self(Mutex::new(map));
        match SecretMapping::new(MAX_SECRET_LENGTH, Protection::Locked) {
            Ok(locked) => Ok((of(locked), true)),
            Err(_) => SecretMapping::new(MAX_SECRET_LENGTH, Protection::Unlocked).map(|map| (of(map), false)),
        }
    }

    /// Gives up to `size` bytes of a payload from `offset` to `send`, and wipes them when it returns.
    pub(crate) fn lend<T>(&self, payload: &Payload, offset: u64, size: usize, send: impl FnOnce(&[u8]) -> T) -> T {
        let mut mapping = self.0.lock();
        let buffer = mapping.expose_mut();
        let size = size.min(buffer.len());
        let count = payload.copy_out(usize::try_from(offset).unwrap_or(usize::MAX), &mut buffer[..size]);
        let sent = send(&buffer[..count]);
        wipe(&mut buffer[..count]);
        sent
    }
}
