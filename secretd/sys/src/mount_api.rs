//! Mounts that no path shows: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).
//!
//! A detached mount is a descriptor. It lives until the last copy of the descriptor is closed, or is attached to a
//! directory and then stays there. Nothing of it appears in any mountinfo until it is attached.
//!
//! What the kernel does not promise: before Linux 6.15 a detached mount cannot be cloned ([`clone_subtree`] gives
//! EINVAL). Attach it first, in a private mount namespace, and clone from there: that works on every kernel that has
//! these calls (5.2; [`set_read_only`] needs 5.12).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// The step of a mount that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel does not have the filesystem, or the caller may not mount.
    #[error("filesystem `{filesystem}` cannot be opened")]
    Open {
        /// Its type.
        filesystem: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The filesystem does not know an option, or refuses its value.
    #[error("filesystem option `{option}` was refused")]
    Option {
        /// Its name.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The options are refused together.
    #[error("the filesystem cannot be made")]
    Create(#[source] io::Error),
    /// The filesystem cannot be mounted.
    #[error("the filesystem cannot be mounted")]
    Mount(#[source] io::Error),
    /// No clone of a mount could be made.
    #[error("a clone of the mount at `{path}` cannot be made")]
    Clone {
        /// The path below the given directory.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The attributes of a mount could not be changed.
    #[error("the mount cannot be made read-only")]
    Attributes(#[source] io::Error),
    /// The mount could not be put into the tree.
    #[error("the mount cannot be attached at `{path}`")]
    Attach {
        /// The path below the given directory.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The mount could not be taken out of the tree.
    #[error("the mount at `{path}` cannot be detached")]
    Detach {
        /// Its path.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl MountError {
    /// Whether it says that nothing is mounted there.
    pub fn is_no_mount(&self) -> bool {
        matches!(self, Self::Detach { source, .. } if source.kind() == io::ErrorKind::InvalidInput)
    }
}

/// Who may use a FUSE mount, as the kernel checks it.
#[derive(Debug, Clone, Copy)]
pub struct FuseOwner {
    /// The owner of the filesystem, in the mounting process's user namespace.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Which memory filesystem was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFilesystem {
    /// tmpfs whose pages are never swapped (Linux 6.4).
    TmpfsNoswap,
    /// ramfs: never swapped, without a limit of size.
    Ramfs,
}

/// A detached FUSE filesystem that `device` (a fresh descriptor of `/dev/fuse`, opened in the caller's user namespace)
/// will serve: nosuid, nodev, noexec, `allow_other` and `default_permissions`; not yet read-only, see
/// [`set_read_only`]. The first request waits until somebody serves `device`.
///
/// # Errors
/// See [`MountError`].
pub fn fuse(device: BorrowedFd<'_>, source: &CStr, owner: FuseOwner) -> Result<OwnedFd, MountError> {
    let context = open("fuse")?;
    let set = |option: &'static str, value: &str| {
        fsconfig_set_string(context.as_fd(), option, value)
            .map_err(|source| MountError::Option { option, source: source.into() })
    };
    set("fd", &device.as_raw_fd().to_string())?;
    set("rootmode", "40000")?;
    set("user_id", &owner.uid.to_string())?;
    set("group_id", &owner.gid.to_string())?;
    for option in ["allow_other", "default_permissions"] {
        fsconfig_set_flag(context.as_fd(), option)
            .map_err(|source| MountError::Option { option, source: source.into() })?;
    }
    fsconfig_set_string(context.as_fd(), "source", source)
        .map_err(|source| MountError::Option { option: "source", source: source.into() })?;
    finish(&context)
}

/// A detached memory filesystem that is never swapped, for nodes without FUSE: tmpfs with `noswap` of at most `size`
/// bytes, or ramfs where the kernel has no `noswap`. nosuid, nodev, noexec; root directory 0755.
///
/// # Errors
/// See [`MountError`].
pub fn unswapped_memory(size: u64) -> Result<(OwnedFd, MemoryFilesystem), MountError> {
    let context = open("tmpfs")?;
    let noswap = fsconfig_set_flag(context.as_fd(), "noswap");
    if noswap.is_ok() {
        for (option, value) in [("size", size.to_string()), ("mode", "0755".to_owned())] {
            fsconfig_set_string(context.as_fd(), option, value)
                .map_err(|source| MountError::Option { option, source: source.into() })?;
        }
        return Ok((finish(&context)?, MemoryFilesystem::TmpfsNoswap));
    }
    let context = open("ramfs")?;
    fsconfig_set_string(context.as_fd(), "mode", "0755")
        .map_err(|source| MountError::Option { option: "mode", source: source.into() })?;
    Ok((finish(&context)?, MemoryFilesystem::Ramfs))
}

/// A detached clone of the mount that holds `path` (relative to `directory`; empty for `directory` itself), with the
/// entry at `path` as its root: a directory, or a single file.
///
/// # Errors
/// [`MountError::Clone`]; EINVAL where `directory` is itself detached and the kernel is older than 6.15.
pub fn clone_subtree(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, MountError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(directory, path, flags)
        .map_err(|source| MountError::Clone { path: path.to_owned(), source: source.into() })
}

/// Makes one mount read-only, whatever the filesystem below it allows to others.
///
/// # Errors
/// [`MountError::Attributes`].
pub fn set_read_only(mount: BorrowedFd<'_>) -> Result<(), MountError> {
    let attributes = nix::libc::mount_attr {
        attr_set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads an empty, NUL-terminated path and `size_of::<mount_attr>()` bytes of the
    // structure that the pointer names; both live until the call returns, and the kernel writes to neither.
    let answer = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            nix::libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<nix::libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(MountError::Attributes(io::Error::last_os_error())) }
}

/// Puts a detached mount on `path` (relative to `directory`; empty for `directory` itself), in the mount namespace of
/// the calling thread. A symbolic link at the end of `path` is not followed.
///
/// # Errors
/// [`MountError::Attach`].
pub fn attach(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, path: &str) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", directory, path, flags)
        .map_err(|source| MountError::Attach { path: path.to_owned(), source: source.into() })
}

/// Takes the topmost mount at `path` out of the tree at once, also while it is in use.
///
/// # Errors
/// [`MountError::Detach`].
pub fn detach(path: &str) -> Result<(), MountError> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|source| MountError::Detach { path: path.to_owned(), source: source.into() })
}

fn open(filesystem: &'static str) -> Result<OwnedFd, MountError> {
    fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|source| MountError::Open { filesystem, source: source.into() })
}

fn finish(context: &OwnedFd) -> Result<OwnedFd, MountError> {
    fsconfig_create(context.as_fd()).map_err(|source| MountError::Create(source.into()))?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|source| MountError::Mount(source.into()))
}
