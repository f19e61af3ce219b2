//! Descriptors for a child process at chosen numbers: dup2(2) between fork(2) and execve(2).

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the child of `command` each descriptor under its number, from 3 on. They close on exec in this process, so no
/// other child gets them.
pub fn inherit(command: &mut Command, descriptors: Vec<(OwnedFd, i32)>) {
    // ASYNC-SIGNAL-SAFE: dup2 and fcntl alone, no allocation, no lock.
    let install = move || {
        // First out of the way of each other's numbers, then into place.
        let mut moved = [-1; 8];
        for ((descriptor, _), place) in descriptors.iter().zip(&mut moved) {
            // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC touches no memory; the descriptor is open, as it is owned here.
            *place = unsafe { nix::libc::fcntl(descriptor.as_raw_fd(), nix::libc::F_DUPFD_CLOEXEC, 64) };
            if *place < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        for ((_, number), from) in descriptors.iter().zip(moved) {
            // SAFETY: dup2(2) touches no memory; what has the number in this child is closed by it, and nobody in the
            // child uses it before execve(2).
            if unsafe { nix::libc::dup2(from, *number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe calls are allowed: it
    // makes only dup2, fcntl and reads of errno.
    unsafe { command.pre_exec(install) };
}
