//! Memory for plaintext and keys: memfd_secret(2), mlock(2), madvise(2).
//!
//! Pages of `memfd_secret` are out of reach of swap, core files, `/proc/PID/mem` and the kernel's own direct map; the
//! price is that no system call can read from them (EFAULT), so whoever sends their contents copies them through a
//! small [`Protection::Locked`] buffer first. Every mapping is overwritten before it is given back.
//!
//! What the kernel does not promise: locked pages are in the image of a hibernated machine, and root may read them
//! through `/proc/PID/mem`.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// How the pages of a [`SecretMapping`] are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret`: nobody but this process's own code can read them.
    MemfdSecret,
    /// Locked into memory and left out of core files.
    Locked,
    /// Left out of core files only: the system may swap them out.
    Unlocked,
}

/// Why no mapping could be made: nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A mapping needs at least one byte, and must not exceed the address space.
    #[error("a mapping of {0} bytes cannot be made")]
    Length(usize),
    /// The kernel has no `memfd_secret`, or it is switched off (`secretmem.enable`).
    #[error("the kernel gives no secret memory")]
    Unavailable(#[source] io::Error),
    /// There is no memory, or the limit of locked memory (RLIMIT_MEMLOCK) is reached.
    #[error("{length} bytes cannot be mapped and locked")]
    Memory {
        /// Bytes asked for.
        length: usize,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Bytes that are overwritten when dropped; whole pages of their own.
pub struct SecretMapping {
    start: NonNull<u8>,
    length: usize,
    mapped: usize,
}

// SAFETY: the mapping belongs to this value alone and nothing in it depends on the thread.
unsafe impl Send for SecretMapping {}
// SAFETY: shared access only reads the bytes; writing needs `&mut self`.
unsafe impl Sync for SecretMapping {}

impl SecretMapping {
    /// `length` zero bytes with the given protection. Every page is present when this returns, so that no later access
    /// can fail for want of memory.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn new(length: usize, protection: Protection) -> Result<Self, MapError> {
        let page = page_size();
        let mapped = length.checked_next_multiple_of(page).ok_or(MapError::Length(length))?;
        if mapped == 0 {
            return Err(MapError::Length(length));
        }
        let memory = |source: rustix::io::Errno| MapError::Memory { length, source: source.into() };
        let start = match protection {
            Protection::MemfdSecret => {
                let file = memfd_secret().map_err(MapError::Unavailable)?;
                rustix::fs::ftruncate(&file, mapped as u64).map_err(memory)?;
                map_file(&file, mapped).map_err(memory)?
            }
            Protection::Locked | Protection::Unlocked => map_anonymous(mapped).map_err(memory)?,
        };
        let start = NonNull::new(start).ok_or(MapError::Length(length))?;
        let mut mapping = Self { start, length, mapped };
        if protection == Protection::Locked {
            // SAFETY: `start..start+mapped` is the mapping made above.
            unsafe { rustix::mm::mlock(start.as_ptr().cast(), mapped) }.map_err(memory)?;
        }
        if protection != Protection::MemfdSecret {
            // SAFETY: `start..start+mapped` is the mapping made above; DONTDUMP changes no contents.
            unsafe { rustix::mm::madvise(start.as_ptr().cast(), mapped, Advice::LinuxDontDump) }.map_err(memory)?;
        }
        mapping.wipe();
        Ok(mapping)
    }

    /// How many bytes may be used.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: a mapping has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies the bytes from `offset` into `out`, as many as there are and as fit; gives their count.
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        let rest = self.expose().get(offset..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        count
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `start` is aligned and non-null, `length <= mapped` bytes of it are mapped, readable and initialized
        // (the kernel gives zeros) until drop; `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes themselves, to be written.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Overwrites everything with zeros; the optimizer cannot leave it out.
    pub fn wipe(&mut self) {
        wipe(self.expose_mut());
    }
}

impl Drop for SecretMapping {
    fn drop(&mut self) {
        self.wipe();
        // SAFETY: `start..start+mapped` is the mapping made in `new`, unmapped only here, and no reference to it
        // outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.mapped) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can be unmapped");
    }
}

impl fmt::Debug for SecretMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretMapping({} bytes)", self.length)
    }
}

/// Overwrites `bytes` with zeros in one pass; the optimizer cannot leave it out. For buffers of a size at which a
/// volatile loop over bytes is too slow.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

/// The best protection that this kernel and these limits give for at least one page.
pub fn probe() -> Protection {
    [Protection::MemfdSecret, Protection::Locked]
        .into_iter()
        .find(|&protection| SecretMapping::new(1, protection).is_ok())
        .unwrap_or(Protection::Unlocked)
}

fn page_size() -> usize {
    // SAFETY: sysconf(3) takes an integer and gives one.
    let size = unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

fn memfd_secret() -> Result<OwnedFd, io::Error> {
    // JUSTIFICATION: neither rustix nor nix has memfd_secret.
    // SAFETY: memfd_secret(2) takes a flag word and touches no memory of ours.
    let answer = unsafe { nix::libc::syscall(nix::libc::SYS_memfd_secret, nix::libc::O_CLOEXEC) };
    let fd = i32::try_from(answer).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn map_file(file: &OwnedFd, length: usize) -> Result<*mut u8, rustix::io::Errno> {
    // SAFETY: a null hint without MAP_FIXED replaces no mapping; the file is as long as the mapping and nobody else
    // has it, so its pages cannot go away under us.
    unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::POPULATE,
            file.as_fd(),
            0,
        )
    }
    .map(<*mut _>::cast)
}

fn map_anonymous(length: usize) -> Result<*mut u8, rustix::io::Errno> {
    // SAFETY: a null hint without MAP_FIXED replaces no mapping.
    unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::POPULATE,
        )
    }
    .map(<*mut _>::cast)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn bytes_written_are_read_back_up_to_the_end() {
        for protection in [Protection::MemfdSecret, Protection::Locked, Protection::Unlocked] {
            let mut mapping = SecretMapping::new(5000, protection).unwrap();
            mapping.expose_mut().fill(7);
            let mut out = [1; 10];

            assert_eq!(mapping.copy_out(4995, &mut out), 5, "{protection:?}");
            assert_eq!(out, [7, 7, 7, 7, 7, 1, 1, 1, 1, 1]);
            assert_eq!(mapping.copy_out(5000, &mut out), 0);
            assert_eq!(mapping.copy_out(usize::MAX, &mut out), 0);
            mapping.wipe();
            assert!(mapping.expose().iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn secret_memory_cannot_be_read_through_proc() {
        let mut mapping = SecretMapping::new(64, Protection::MemfdSecret).unwrap();
        mapping.expose_mut().fill(7);
        let memory = File::open("/proc/self/mem").unwrap();

        let read = memory.read_at(&mut [0; 64], mapping.start.as_ptr() as u64);

        assert!(read.is_err(), "{read:?}");
    }

    #[test]
    fn empty_and_impossible_lengths_are_refused() {
        for length in [0, usize::MAX] {
            assert!(matches!(SecretMapping::new(length, Protection::Locked), Err(MapError::Length(_))));
        }
        assert!(matches!(SecretMapping::new(1 << 60, Protection::Unlocked), Err(MapError::Memory { .. })));
    }

    #[test]
    fn mapping_does_not_print_its_contents() {
        let mapping = SecretMapping::new(3, Protection::Unlocked).unwrap();
        assert_eq!(format!("{mapping:?}"), "SecretMapping(3 bytes)");
    }
}
