//! Starts secret-fs: with its listening socket and its audit log, and nothing else of ours.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use camino::Utf8Path;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Config;
use crate::shim_config::Backend;

/// Where the two descriptors are in the child.
const LISTEN_FD: i32 = 3;
const AUDIT_FD: i32 = 4;

/// Ends a secret-fs that this release cannot speak to: its mounts are replaced by those of the next one.
pub(super) fn end(process: i32) -> io::Result<()> {
    let pid = Pid::from_raw(process).ok_or_else(|| io::Error::other("the peer has no process"))?;
    match pidfd_open(pid, PidfdFlags::empty()).and_then(|held| pidfd_send_signal(held, Signal::KILL)) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Starts secret-fs. Connections wait in the socket's queue until it accepts them.
pub(super) fn start(config: &Config, socket: &Utf8Path, backend: Backend) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    let audit = config.audit.open()?;

    let (uid, gid) = config.identity;
    let mut command = Command::new(&config.program);
    command
        .args(["--listen-fd", &LISTEN_FD.to_string(), "--audit-fd", &AUDIT_FD.to_string()])
        .args(["--uid", &uid.to_string(), "--gid", &gid.to_string()])
        .args(["--fill-files", if backend == Backend::Memory { "1" } else { "0" }])
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0); // a terminal's Ctrl-C is for secretd alone
    secretd_sys::spawn::inherit(
        &mut command,
        vec![(OwnedFd::from(listener), LISTEN_FD), (OwnedFd::from(audit), AUDIT_FD)],
    )?;
    let mut child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", config.program.display())))?;
    // It outlives this process; as long as both are there, its end must be taken note of.
    std::thread::Builder::new()
        .name("secret-fs-reaper".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || child.wait())?;
    Ok(())
}
