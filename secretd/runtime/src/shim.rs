//! The process of one container: makes it, keeps its output, tells its end, wakes its watchers.
//!
//! One thread, no runtime: libcontainer forks, and a hundred shims must weigh little. A shim outlives the secretd that
//! started it; what it is asked for comes over `shim.sock` (see [`secretd_proto::shim`]).
//!
//! Deliberately absent: decisions. When to start, stop or remove is the agent's.

mod cgroup;
pub(crate) mod console;
mod copy;
pub(crate) mod create;
pub(crate) mod identity;
pub(crate) mod log;
mod loopback;
pub(crate) mod program;
pub(crate) mod rootfs;
mod secrets;
pub(crate) mod serve;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use camino::Utf8Path;

use crate::shim_config::{LoadError, PID_FILE, ShimConfig};

/// Why a shim did not come to serve.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

/// The shim's whole life. `socket` is its listening socket, inherited. Must run before the process has a second thread.
pub fn main_shim(task_dir: &Utf8Path, socket: OwnedFd) -> ExitCode {
    match run(task_dir, socket.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task_dir: &Utf8Path, listener: UnixListener) -> Result<(), StartError> {
    let at = |step: &'static str| move |source: io::Error| StartError::Step { step, source };
    let listener = alone_with(listener).map_err(at("descriptors"))?;
    let config = ShimConfig::load(task_dir)?;
    std::fs::write(task_dir.join(PID_FILE), format!("{}\n", std::process::id())).map_err(at("pid file"))?;
    let _ = nix::unistd::setsid(); // fails only where this is a session's leader already
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    secretd_sys::child::become_subreaper().map_err(at("subreaper"))?;
    rootfs::leave_mount_namespace().map_err(at("mount namespace"))?;
    let log = log::Log::open(&config.log).map_err(at("log"))?;
    let signals = serve::child_signals().map_err(at("signals"))?;
    let created = create::create(task_dir, &config);
    serve::Server::new(config, listener, signals, log, created).run().map_err(at("serve"))
}

/// Leaves of all that was inherited nothing open but the socket and the standard streams, of which the input is empty.
fn alone_with(listener: UnixListener) -> io::Result<UnixListener> {
    let kept = rustix::io::fcntl_dupfd_cloexec(&listener, 3)?;
    drop(listener);
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    secretd_sys::child::close_others(3, &kept)?;
    Ok(kept.into())
}
