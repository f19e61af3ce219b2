//! Which threads lead a process: tgkill(2) with signal 0 checks and sends nothing.

use std::io;

/// Whether a thread id is a process's too, that of its first thread. The thread must not end meanwhile.
///
/// # Errors
/// An id that cannot be one.
pub fn is_leader(thread: u32) -> io::Result<bool> {
    let id = i32::try_from(thread).map_err(io::Error::other)?;
    // SAFETY: tgkill(2) takes three integers and touches no memory; signal 0 is never delivered.
    let answer = unsafe { nix::libc::syscall(nix::libc::SYS_tgkill, id, id, 0) };
    if answer == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(false),
        error if error.raw_os_error() == Some(nix::libc::EPERM) => Ok(true), // it is there, and another user's
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_thread_alone_leads() {
        let process = std::process::id();
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();

        assert_ne!(thread, process, "tests run on threads of their own");
        assert!(is_leader(process).unwrap());
        assert!(!is_leader(thread).unwrap());
        assert!(is_leader(0).is_err());
    }
}
