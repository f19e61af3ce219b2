//! Who is behind a FUSE request, read from /proc while the request waits.
//!
//! The kernel gives a thread id in the pid namespace of the process that mounted. The thread cannot end while its
//! request is pending (not even by SIGKILL), so what /proc says of it is true until the request is answered.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use secretd_sys::thread_group;

/// Bytes that a file has less than.
const LONGEST_FILE: usize = 64 * 1024;

/// One waiting caller.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The process that the thread belongs to, 0 where it is not known.
    pub(crate) process: u32,
    /// The text of its `/proc/TID/cgroup`.
    pub(crate) cgroup: String,
}

impl Caller {
    /// Looks at the thread behind a pending request.
    ///
    /// # Errors
    /// When /proc does not show the thread.
    pub(crate) fn look(thread: u32) -> io::Result<Self> {
        let cgroup = read(&format!("/proc/{thread}/cgroup"))?;
        Ok(Self { process: process_of(thread)?, cgroup })
    }
}

/// The process of a thread, 0 where it is not known. Most callers are the first thread of theirs, which the kernel tells
/// in a tenth of the time that it takes to write down a whole status.
fn process_of(thread: u32) -> io::Result<u32> {
    if thread_group::is_leader(thread)? {
        return Ok(thread);
    }
    let status = read(&format!("/proc/{thread}/status"))?;
    Ok(thread_group(&status).unwrap_or(0))
}

/// Why a process cannot be the shim of a task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// The process is gone, or the kernel has no process descriptors (before 5.3).
    #[error("the peer's process cannot be held: {0}")]
    Gone(io::Error),
    /// The kernel would name callers by their numbers in that namespace, which mean other processes here.
    #[error("the peer is not in the pid namespace of secret-fs")]
    Namespace,
}

/// The process that attached a task's filesystem: it alone may wake the watchers.
#[derive(Debug)]
pub(crate) struct Shim {
    pid: u32,
    process: OwnedFd,
}

impl Shim {
    /// Holds on to the process at the other end of a connection, which waits for an answer.
    ///
    /// # Errors
    /// See [`HoldError`].
    pub(crate) fn hold(pid: Pid) -> Result<Self, HoldError> {
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| HoldError::Gone(error.into()))?;
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        let status = read(&format!("/proc/{pid}/status")).map_err(HoldError::Gone)?;
        if numbers_in_namespaces(&status) == 1 { Ok(Self { pid, process }) } else { Err(HoldError::Namespace) }
    }

    /// Whether a thread id is the shim's first (and only) thread: the process must still live, as its number may have
    /// been given to another one.
    pub(crate) fn is(&self, thread: u32) -> bool {
        thread == self.pid && self.lives()
    }

    /// Whether the process has not ended.
    pub(crate) fn lives(&self) -> bool {
        let mut ended = [PollFd::from_borrowed_fd(self.process.as_fd(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut ended, Some(&now)), Ok(0))
    }
}

/// The text of a small file of /proc, which comes whole where there is room for it: less than that is the end.
fn read(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        length += file.read(&mut text[length..])?;
        if length < text.len() {
            break;
        }
        if length >= LONGEST_FILE {
            return Err(io::ErrorKind::FileTooLarge.into()); // a path that is cut would be another one
        }
        text.resize(text.len() * 2, 0);
    }
    text.truncate(length);
    String::from_utf8(text).map_err(io::Error::other)
}

fn thread_group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// In how many pid namespaces a process has a number: one, when it is in the namespace of this /proc.
fn numbers_in_namespaces(status: &str) -> usize {
    status.lines().find_map(|line| line.strip_prefix("NSpid:")).map_or(0, |numbers| numbers.split_whitespace().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_in_a_pid_namespace_of_its_own_has_more_numbers() {
        assert_eq!(numbers_in_namespaces("Name:\tx\nNSpid:\t4711\nVmPeak: 1\n"), 1);
        assert_eq!(numbers_in_namespaces("NSpid:\t4711\t1\n"), 2);
        assert_eq!(numbers_in_namespaces("Name:\tx\n"), 0);
    }

    #[test]
    fn process_of_a_thread_is_its_thread_group() {
        assert_eq!(thread_group("Name:\tx\nTgid:\t4711\nPid:\t4712\n"), Some(4711));
        assert_eq!(thread_group("Name:\tTgid\n"), None);

        // Tests run on threads beside the first one; both kinds have the same process.
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        assert_ne!(thread, std::process::id());
        for thread in [thread, std::process::id()] {
            let caller = Caller::look(thread).unwrap();
            assert_eq!(caller.process, std::process::id());
            assert!(caller.cgroup.contains(":/"), "{}", caller.cgroup);
        }
    }

    #[test]
    fn shim_is_known_by_its_number_and_by_being_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let shim = Shim::hold(pid).unwrap();

        assert!(shim.is(child.id()));
        assert!(!shim.is(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!shim.is(pid.as_raw_nonzero().get().unsigned_abs()));
    }
}
