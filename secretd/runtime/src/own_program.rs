//! This program as a container may meet it: on a mount of its own that nobody can write to.
//!
//! A container's first process is a fork of the shim, and `#!/proc/self/exe` makes the shim's file a program of the
//! container, where root can open it through `/proc`. On the mount that it was installed on it could be overwritten from
//! there once nobody runs it (CVE-2019-5736). It is also what stays the same program while a newer one is installed.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;

use nix::libc::O_PATH;
use secretd_sys::mount_api;

/// The file that this process runs, read-only whoever opens it. Clones share it.
#[derive(Debug, Clone)]
pub struct OwnProgram(Arc<OwnedFd>);

impl OwnProgram {
    /// The program of this process.
    ///
    /// # Errors
    /// Where `/proc` is absent, or this process may not mount.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(O_PATH).open("/proc/self/exe")?;
        let mount = mount_api::clone_subtree(file.as_fd(), "").map_err(io::Error::other)?;
        mount_api::set_read_only(mount.as_fd()).map_err(io::Error::other)?;
        Ok(Self(Arc::new(mount)))
    }

    /// A command that runs it; it shows as `secretd` with its arguments.
    pub fn command(&self) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        command.arg0("secretd");
        command
    }
}
