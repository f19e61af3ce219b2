//! A container's own init (`--init`): the process that stays while the program runs in a child.
//!
//! It has the identity, the capabilities and the filters of the program, as Docker's has: it is made after they were
//! taken. So a program that becomes another user by a setuid file is beyond its signals, as there.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setpgid, tcsetpgrp};
use secretd_sys::child::{self, ChildError, Side};

/// Why no init could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    /// The limit of processes is used up by the init itself.
    #[error("the limit of processes leaves no room for the program beside the init: raise --limit-pids")]
    Limit,
    #[error(transparent)]
    Split(ChildError),
    #[error("{call}: {source}")]
    Call { call: &'static str, source: nix::Error },
    #[error("descriptors: {0}")]
    Descriptors(#[source] std::io::Error),
}

/// Goes on in a child; this process stays the container's first, forwards signals to the child, reaps orphans, and ends
/// as the child ends.
pub(super) fn stay() -> Result<(), InitError> {
    let at = |call: &'static str| move |source| InitError::Call { call, source };
    let all = SigSet::all();
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before)).map_err(at("sigprocmask"))?;
    match child::split().map_err(no_room)? {
        Side::Child => {
            // A process group of its own, so that a terminal's signals reach the program and not this init twice; and
            // the terminal's first group, which may read and change it. There need not be a terminal.
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(at("setpgid"))?;
            let _ = tcsetpgrp(std::io::stdin(), getpid());
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(at("sigprocmask"))
        }
        Side::Parent(program) => {
            if let Err(error) = stay_closed() {
                let _ = kill(program, Signal::SIGKILL);
                return Err(error);
            }
            child::exit_now(forward(program, &all))
        }
    }
}

fn no_room(error: ChildError) -> InitError {
    match error {
        ChildError::Fork(source) if source.kind() == std::io::ErrorKind::WouldBlock => InitError::Limit,
        error @ (ChildError::Threads | ChildError::Fork(_) | ChildError::Wait(_)) => InitError::Split(error),
    }
}

/// What lives as long as the container keeps nothing of the shim's open, and lets nobody look into it.
fn stay_closed() -> Result<(), InitError> {
    let at = |call: &'static str| move |source| InitError::Call { call, source };
    child::close_from(3).map_err(InitError::Descriptors)?;
    nix::sys::prctl::set_dumpable(false).map_err(at("dumpable"))?;
    nix::sys::prctl::set_name(c"secretd-init").map_err(at("name"))
}

fn forward(program: Pid, all: &SigSet) -> i32 {
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(pid, code)) if pid == program => return code,
                    Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => return 128 + signal as i32,
                    Ok(WaitStatus::StillAlive) | Err(_) => break,
                    Ok(_) => {}
                }
            },
            Ok(signal) => {
                let _ = kill(program, signal); // it may have ended just now
            }
            Err(_) => {}
        }
    }
}
