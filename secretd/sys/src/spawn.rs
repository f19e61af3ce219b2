//! Descriptors for a child process at chosen numbers: dup2(2) between fork(2) and execve(2).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the child of `command` each descriptor under its number, from 3 on. They close on exec in this process, so no
/// other child gets them.
///
/// # Errors
/// When there are more than eight, or this process has no descriptors left.
pub fn inherit(command: &mut Command, descriptors: Vec<(OwnedFd, i32)>) -> io::Result<()> {
    if descriptors.len() > MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The numbers are in use here as long as the command lives, so that none of them is given to the pipe on which the
    // standard library hears from its child.
    let highest = descriptors.iter().map(|(_, number)| *number).max().unwrap_or(0);
    let mut reserved = vec![File::open("/dev/null")?];
    while reserved.last().is_some_and(|file| file.as_raw_fd() <= highest) {
        reserved.push(File::open("/dev/null")?);
    }
    // ASYNC-SIGNAL-SAFE: dup2 and fcntl alone, no allocation, no lock.
    let install = move || {
        let _reserved = &reserved;
        // First out of the way of each other's numbers, then into place.
        let mut moved = [-1; MAX];
        for ((descriptor, _), place) in descriptors.iter().zip(&mut moved) {
            // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC touches no memory; the descriptor is open, as it is owned here.
            *place = unsafe { nix::libc::fcntl(descriptor.as_raw_fd(), nix::libc::F_DUPFD_CLOEXEC, 64) };
            if *place < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for ((_, number), from) in descriptors.iter().zip(moved) {
            // SAFETY: dup2(2) touches no memory; what has the number in this child is closed by it: a descriptor of the
            // parent's, which nobody in the child uses before execve(2), and never the standard library's own pipe,
            // which got a number that was free.
            if unsafe { nix::libc::dup2(from, *number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe calls are allowed: it
    // makes only dup2, fcntl and reads of errno.
    unsafe { command.pre_exec(install) };
    Ok(())
}

/// Descriptors that one child may get.
const MAX: usize = 8;
