//! The hidden subcommands, for processes that secretd starts itself: one listening or connected socket as standard
//! input, and the task's run directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use camino::Utf8PathBuf;
use secretd_runtime::{exec, shim};

/// Runs a shim or a command's process, where the arguments ask for one.
pub(crate) fn main_if_child() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let main = match arguments.next().as_deref() {
        Some("shim") => shim::main_shim,
        Some("container-exec") => exec::main_exec,
        _ => return None,
    };
    let (Some("--task-dir"), Some(directory), None) = (arguments.next().as_deref(), arguments.next(), arguments.next())
    else {
        return Some(ExitCode::from(2));
    };
    let _ = nix::sys::prctl::set_name(c"secretd"); // it was started by a descriptor, whose number it would show
    tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(tracing::Level::ERROR).without_time().init();
    match take_socket() {
        Ok(socket) => Some(main(&Utf8PathBuf::from(directory), socket)),
        Err(error) => {
            tracing::error!("no socket: {error}");
            Some(ExitCode::from(2))
        }
    }
}

/// Standard input is the socket; /dev/null takes its place, so that no container inherits it.
fn take_socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
