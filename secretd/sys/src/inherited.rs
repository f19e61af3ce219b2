//! Descriptors that a parent process hands to its child by number.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

/// Takes over a descriptor that this process was started with, and closes it on exec from now on.
///
/// Call it once for each number, before anything else is opened: the number must be one that the parent promised.
///
/// # Errors
/// EBADF when there is no such descriptor; EINVAL for standard input, output and error, which are never handed over.
pub fn take(number: i32) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1, and the descriptor is only asked for its flags, which fails where there is none.
    let candidate = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(candidate)?;
    rustix::io::fcntl_setfd(candidate, flags | rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open, as its flags were read; the caller takes each number once, before it opens
    // anything, so nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_without_a_descriptor_is_refused() {
        assert_eq!(take(1 << 20).unwrap_err().raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
        for standard in [-1, 0, 1, 2] {
            assert_eq!(take(standard).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
