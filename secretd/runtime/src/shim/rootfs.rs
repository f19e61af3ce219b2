//! The container's root filesystem, in the shim's own mount namespace: when the shim is gone, so is the mount.
//!
//! What is looked up or made in it goes through openat2(2) with RESOLVE_IN_ROOT: no symbolic link of an image leads out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::shim_config::Overlay;

/// The longest passwd or group file that is read.
const MAX_DATABASE: u64 = 4 * 1024 * 1024;

/// A mounted root.
#[derive(Debug)]
pub(crate) struct Rootfs {
    pub(super) path: Utf8PathBuf,
    root: OwnedFd,
}

/// Leaves the node's mount namespace for one that sees its later mounts but shows it none.
pub(super) fn leave_mount_namespace() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(())
}

impl Rootfs {
    /// Mounts the overlay at `path`.
    pub(super) fn mount(overlay: &Overlay, path: &Utf8Path) -> io::Result<Self> {
        for directory in [overlay.upper.as_path(), &overlay.work, path] {
            std::fs::create_dir_all(directory)?;
        }
        // The options must fit a page, which the paths of an image of many layers do not: descriptors stand for them.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |layer: &Utf8PathBuf| rustix::fs::open(layer.as_std_path(), flags, Mode::empty());
        let layers = overlay.lower.iter().map(open).collect::<Result<Vec<OwnedFd>, _>>()?;
        let lower: Vec<String> = layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
        let lower = lower.join(":");
        // A comma in a path would begin another option; our directories have none.
        let options = format!("lowerdir={lower},upperdir={},workdir={}", overlay.upper, overlay.work);
        let options = std::ffi::CString::new(options)?;
        mount("overlay", path.as_std_path(), "overlay", MountFlags::empty(), options.as_c_str())?;
        let root = rustix::fs::open(path.as_std_path(), flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), root })
    }

    /// The root of a running container, as its process sees it.
    pub(crate) fn of_process(pid: i32) -> io::Result<Self> {
        let path = Utf8PathBuf::from(format!("/proc/{pid}/root"));
        let root =
            rustix::fs::open(path.as_std_path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { path, root })
    }

    fn open(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = if path.trim_start_matches('/').is_empty() { "." } else { path };
        Ok(openat2(
            self.root.as_fd(),
            path,
            flags | OFlags::CLOEXEC,
            mode,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?)
    }

    /// A text file of the image, or nothing where it is not there.
    pub(crate) fn read_text(&self, path: &str) -> io::Result<String> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_DATABASE).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether `path` is a regular file that somebody may execute; an error where it is not there.
    pub(super) fn is_program(&self, path: &str) -> io::Result<bool> {
        let file = self.open(path, OFlags::PATH, Mode::empty())?;
        let stat = rustix::fs::fstat(file)?;
        Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_mode & 0o111 != 0)
    }

    /// Whether `path` is a directory; an error where it is not there.
    pub(crate) fn is_directory(&self, path: &str) -> io::Result<bool> {
        let stat = rustix::fs::fstat(self.open(path, OFlags::PATH, Mode::empty())?)?;
        Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
    }

    /// Makes a directory with all that lead to it, in the image's own terms.
    pub(super) fn make_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut at = String::from("/");
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let parent = self.open(&at, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at.push_str(part);
            at.push('/');
        }
        self.open(&at, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Makes an empty file where there is nothing, for a file to be mounted on.
    pub(super) fn make_file(&self, path: &str) -> io::Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.make_directory(parent)?;
        }
        self.open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::from_raw_mode(0o644))
            .map(drop)
    }

    /// Copies what the image has at `target` into the new volume at `volume`.
    pub(super) fn populate(&self, target: &str, volume: &Utf8Path) -> io::Result<()> {
        let source = match self.open(target, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(source) => source,
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let to = rustix::fs::open(
            volume.as_std_path(),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        super::copy::directory(&source, &to)
    }
}

/// Writes a generated file of /etc.
pub(super) fn write(path: &Utf8Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
}
