//! What can serve secrets on this node, found out by trying.

use std::fs::OpenOptions;

use rustix::mount::{FsOpenFlags, fsopen};
use secretd_sys::mount_api::{self, MemoryFilesystem};

use crate::shim_config::Backend;

/// What serves the secrets of this node, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChoice {
    /// For the shims.
    pub backend: Backend,
    /// `fuse`, `tmpfs` or `ramfs`.
    pub name: &'static str,
    /// Why it is that one.
    pub reason: String,
    /// What follows, where it is not FUSE.
    pub weakness: Option<String>,
}

/// Tries FUSE, then a tmpfs that is not swapped, then a ramfs.
pub fn probe() -> BackendChoice {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").map(drop);
    let fuse = device.and_then(|()| Ok(fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map(drop)?));
    let reason = match fuse {
        Ok(()) => {
            let reason = "FUSE is there".to_owned();
            return BackendChoice { backend: Backend::Fuse, name: "fuse", reason, weakness: None };
        }
        Err(error) => format!("FUSE is not there: {error}"),
    };
    let name = match mount_api::unswapped_memory(4096) {
        Ok((_, MemoryFilesystem::TmpfsNoswap)) => "tmpfs",
        Ok((_, MemoryFilesystem::Ramfs)) | Err(_) => "ramfs",
    };
    let weakness = format!(
        "secrets are files of a {name}: reads are not recorded, root of the node can read them, and a rotation does not reach open files"
    );
    BackendChoice { backend: Backend::Memory, name, reason, weakness: Some(weakness) }
}
