//! Children of a single-threaded process: fork(2), waitpid(2), prctl(2), close_range(2).
//!
//! The shim and the exec process have one thread, so that what runs after fork may allocate and lock.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Why a child could not be made or did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The process has more threads than this one.
    #[error("a process with several threads must not fork")]
    Threads,
    /// The kernel refused.
    #[error("a child process cannot be made")]
    Fork(#[source] io::Error),
    /// Its end could not be seen.
    #[error("a child process was lost")]
    Wait(#[source] io::Error),
}

/// Which process goes on after [`split`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that called, with the new one's id.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Goes on in two processes.
///
/// # Errors
/// When the process has several threads, or the kernel has no room for another process.
pub fn split() -> Result<Side, ChildError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(ChildError::Threads);
    }
    // SAFETY: fork(2) in a process of several threads leaves locks of the others held for ever in the child; the lines
    // above have seen that there is one thread, and only that thread could have made another since.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(Side::Parent(child)),
        Ok(ForkResult::Child) => Ok(Side::Child),
        Err(error) => Err(ChildError::Fork(error.into())),
    }
}

/// Runs `work` in a child process and waits for it: its answer, 0 to 255. What the child changes of itself, such as its
/// namespaces, ends with it. A child that is killed answers 255.
///
/// # Errors
/// See [`split`].
pub fn in_child(work: impl FnOnce() -> u8) -> Result<u8, ChildError> {
    match split()? {
        Side::Child => {
            let answer = work();
            // SAFETY: _exit(2) has no precondition. It runs no destructor and no atexit handler of the parent's.
            unsafe { nix::libc::_exit(i32::from(answer)) }
        }
        Side::Parent(child) => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(_) => return Ok(u8::MAX),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(ChildError::Wait(error.into())),
            }
        },
    }
}

/// Unblocks every signal and gives SIGPIPE back its default, for a program that is about to be executed: both survive
/// execve(2), and Rust's runtime ignores SIGPIPE.
///
/// # Errors
/// The kernel's.
pub fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    // SAFETY: signal(2) must not install a handler that is not async-signal-safe: the default is no handler.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Ends the process at once, without destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { nix::libc::_exit(code) }
}

/// Closes every descriptor from `first` on (close_range(2), Linux 5.9): in a process that goes on without the owners of
/// those descriptors.
///
/// # Errors
/// The kernel's.
pub fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX)
}

/// Closes every descriptor from `first` on but `kept`.
///
/// # Errors
/// The kernel's.
pub fn close_others(first: u32, kept: &OwnedFd) -> io::Result<()> {
    let number = u32::try_from(kept.as_raw_fd()).map_err(io::Error::other)?;
    for (from, to) in [(first, number.saturating_sub(1)), (number.saturating_add(1).max(first), u32::MAX)] {
        if from <= to {
            close_range(from, to)?;
        }
    }
    Ok(())
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: close_range(2) has no memory precondition. That no owner uses its descriptor afterwards is what the
    // contract asks of the caller; a stale owner gets EBADF, or touches another file, but no memory.
    let answer = unsafe { nix::libc::close_range(first, last, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Orphans of this process's descendants become its children (PR_SET_CHILD_SUBREAPER).
///
/// # Errors
/// The kernel's.
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_with_several_threads_does_not_fork() {
        // The test harness has a thread for each test.
        assert!(matches!(in_child(|| 0), Err(ChildError::Threads)));
    }
}
