//! Takes away what a container leaves behind, whoever has died. All of it may be gone already.

use std::io::{self, ErrorKind};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shim_config::PID_FILE;

/// Rounds in which processes of a control group are killed before it is given up.
const ROUNDS: usize = 50;

/// Kills the shim of a task directory, if it is still there. Its mounts and its container's first process go with it.
pub(super) fn shim(dir: &Utf8Path) -> io::Result<()> {
    let Ok(text) = std::fs::read_to_string(dir.join(PID_FILE)) else { return Ok(()) };
    let Ok(pid) = text.trim().parse::<i32>() else { return Ok(()) };
    // The number may belong to another process by now: only one that was started for this directory is killed.
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if arguments.split(|&byte| byte == 0).any(|argument| argument == dir.as_str().as_bytes()) {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Kills what is in a control group and removes it, in every hierarchy.
pub(super) fn cgroup(path: &str) -> io::Result<()> {
    for directory in hierarchies().map(|root| root.join(path.trim_start_matches('/'))) {
        for round in 0..ROUNDS {
            match std::fs::read_to_string(directory.join("cgroup.procs")) {
                Ok(text) => {
                    for pid in text.lines().filter_map(|line| line.parse().ok()) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // it may have ended just now
                    }
                }
                Err(error) if gone(&error) => break,
                Err(error) => return Err(error),
            }
            match std::fs::remove_dir(&directory) {
                Ok(()) => break,
                Err(error) if gone(&error) => break,
                // A killed process is in the group until it is reaped.
                Err(error) if error.kind() == ErrorKind::ResourceBusy && round + 1 < ROUNDS => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Removes a control group that holds nothing any more, in every hierarchy; one that does is left.
pub(super) fn empty_cgroup(path: &str) {
    for directory in hierarchies().map(|root| root.join(path.trim_start_matches('/'))) {
        let _ = std::fs::remove_dir(directory);
    }
}

/// The file disappears while it is read when its group does.
fn gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

fn hierarchies() -> impl Iterator<Item = Utf8PathBuf> {
    let root = Utf8PathBuf::from("/sys/fs/cgroup");
    let entries = root.read_dir_utf8().into_iter().flatten().flatten();
    let mut roots: Vec<Utf8PathBuf> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.into_path())
        .collect();
    roots.push(root);
    roots.into_iter()
}

/// Removes a directory with all that is in it.
pub(super) fn tree(path: &Utf8Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
