//! A layer into a directory, by names that an adversary may have chosen.
//!
//! Every path is resolved with openat2(2) and RESOLVE_IN_ROOT: `..`, absolute names and symbolic links, also ones that
//! the archive itself has made a moment before, stay in the directory. Whiteouts become overlayfs's: a character device
//! 0/0 for a removed entry, an attribute for a directory that hides what is below. Devices are refused, except below
//! `/dev`, where a container gets its own in any case: those are left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, mkdirat, mknodat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use tar::{Archive, Entry, EntryType};

use super::stream::complaint;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// More entries than any image has.
const MAX_ENTRIES: u64 = 10_000_000;

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the archive cannot be read: {}", complaint(.0))]
    Archive(#[source] io::Error),
    #[error("the archive has no entry: is it a tar archive?")]
    Empty,
    #[error("the archive's entry `{path}` is a device, which an image may not have outside /dev")]
    Device { path: String },
    #[error("the archive's entry `{path}` leads out of the image, or through something that is no directory")]
    Escape { path: String },
    #[error(
        "the archive unpacks to more than {limit} bytes: raise images.max-unpacked in the daemon's configuration if it must"
    )]
    TooLarge { limit: u64 },
    #[error("the archive has more than {MAX_ENTRIES} entries")]
    TooMany,
    #[error("`{path}` cannot be unpacked: {}", complaint(source))]
    Entry { path: String, source: io::Error },
}

/// Unpacks `archive` into `root`: bytes of files.
pub(super) fn unpack(archive: impl Read, root: &OwnedFd, max_bytes: u64) -> Result<u64, UnpackError> {
    let mut archive = Archive::new(archive);
    let mut unpacker = Unpacker { root, bytes: 0, max_bytes, directories: BTreeMap::new() };
    let mut count = 0;
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        unpacker.entry(entry.map_err(UnpackError::Archive)?)?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(UnpackError::TooMany);
        }
    }
    if count == 0 {
        return Err(UnpackError::Empty);
    }
    unpacker.finish()?;
    Ok(unpacker.bytes)
}

struct Unpacker<'a> {
    root: &'a OwnedFd,
    bytes: u64,
    max_bytes: u64,
    /// Times of directories, set last because what is made in them changes them.
    directories: BTreeMap<PathBuf, i64>,
}

impl Unpacker<'_> {
    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let raw = entry.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&raw).escape_debug().take(256).collect::<String>();
        if matches!(entry.header().entry_type(), EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inside(Path::new(OsStr::from_bytes(&raw))).ok_or_else(|| UnpackError::Escape { path: shown() })?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.root_entry(&entry).map_err(|source| UnpackError::Entry { path: shown(), source });
        };
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Char | EntryType::Block) {
            if path.starts_with("dev") {
                return Ok(());
            }
            return Err(UnpackError::Device { path: shown() });
        }
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > self.max_bytes {
            return Err(UnpackError::TooLarge { limit: self.max_bytes });
        }
        let directory = self.directory(parent).map_err(|source| match source.raw_os_error() {
            Some(nix::libc::ENOTDIR | nix::libc::ELOOP | nix::libc::EXDEV) => UnpackError::Escape { path: shown() },
            _ => UnpackError::Entry { path: shown(), source },
        })?;
        let made = if name.as_bytes().starts_with(WHITEOUT) {
            whiteout(&directory, name.as_bytes())
        } else {
            self.make(&mut entry, &directory, &name, &path)
        };
        made.map_err(|source| UnpackError::Entry { path: shown(), source })
    }

    /// The root's own entry: its mode, owner and time.
    fn root_entry(&mut self, entry: &Entry<'_, impl Read>) -> io::Result<()> {
        let header = entry.header();
        if header.entry_type() == EntryType::Directory {
            let root = self.open(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
            own(&root, header)?;
            self.directories.insert(PathBuf::from("."), mtime(header)?);
        }
        Ok(())
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// The directory at `path`, made with those that lead to it where the archive has no entry for them.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut at = PathBuf::new();
        for part in path.components() {
            let parent = self.open(&at, OFlags::PATH | OFlags::DIRECTORY)?;
            at.push(part);
            match mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    #[allow(clippy::wildcard_enum_match_arm)] // POSIX: an entry of an unknown type is a regular file
    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        directory: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<()> {
        let header = entry.header().clone();
        let is_directory = header.entry_type() == EntryType::Directory;
        clear(directory, name, is_directory)?;
        match header.entry_type() {
            EntryType::Directory => {
                match mkdirat(directory, name, Mode::RWXU) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = child(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
                attributes(entry, &made)?;
                own(&made, &header)?;
                self.directories.insert(path.to_owned(), mtime(&header)?);
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link without a target"))?;
                symlinkat(OsStr::from_bytes(&target), directory, name)?;
                let (uid, gid) = owner(&header)?;
                chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                utimensat(directory, name, &times(mtime(&header)?), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| io::Error::other("a link without a target"))?;
                let target = inside(Path::new(OsStr::from_bytes(&target)))
                    .ok_or_else(|| io::Error::other("a link that leads out of the image"))?;
                let from =
                    self.open(target.parent().unwrap_or_else(|| Path::new("")), OFlags::PATH | OFlags::DIRECTORY)?;
                let file = target.file_name().ok_or_else(|| io::Error::other("a link to the root"))?;
                linkat(&from, file, directory, name, AtFlags::empty())?;
            }
            EntryType::Fifo => {
                mknodat(directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
                let (uid, gid) = owner(&header)?;
                chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {
                let made = child_new(directory, name)?;
                let mut file = std::fs::File::from(made);
                io::copy(entry, &mut file)?;
                let made = OwnedFd::from(file);
                own(&made, &header)?; // before the attributes: a change of owner takes file capabilities away
                attributes(entry, &made)?;
                futimens(&made, &times(mtime(&header)?))?;
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), UnpackError> {
        for (path, time) in self.directories.iter().rev() {
            let set = self
                .open(path, OFlags::RDONLY | OFlags::DIRECTORY)
                .and_then(|made| Ok(futimens(&made, &times(*time))?));
            match set {
                // A later entry may have put something else in its place.
                Err(error) if [io::ErrorKind::NotADirectory, io::ErrorKind::NotFound].contains(&error.kind()) => {}
                other => other.map_err(|source| UnpackError::Entry { path: path.display().to_string(), source })?,
            }
        }
        Ok(())
    }
}

/// The path below the root; nothing for one that climbs above it. Roots and dots are left out, as Docker does.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Takes away what has the name: an entry replaces an earlier one, but a directory keeps what is in it.
fn clear(directory: &OwnedFd, name: &OsStr, for_directory: bool) -> io::Result<()> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
            if for_directory {
                Ok(())
            } else {
                Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
            }
        }
        Ok(_) => Ok(unlinkat(directory, name, AtFlags::empty())?),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn whiteout(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
    if name == OPAQUE {
        let readable = child(directory, OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        return Ok(fsetxattr(&readable, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    let hidden = OsStr::from_bytes(name.get(WHITEOUT.len()..).unwrap_or_default());
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(io::Error::other("a whiteout without a name"));
    }
    clear(directory, hidden, false)?;
    Ok(mknodat(directory, hidden, FileType::CharacterDevice, Mode::empty(), 0)?)
}

fn child(directory: &OwnedFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(directory, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)?)
}

fn child_new(directory: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(directory.as_fd(), name, flags, Mode::RUSR | Mode::WUSR, resolve)?)
}

fn owner(header: &tar::Header) -> io::Result<(Uid, Gid)> {
    let id = |number: u64| u32::try_from(number).map_err(|_| io::Error::other("an owner beyond 32 bits"));
    Ok((Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?)))
}

/// Owner, then mode: a change of owner clears the setuid bits.
fn own(made: &OwnedFd, header: &tar::Header) -> io::Result<()> {
    let (uid, gid) = owner(header)?;
    fchown(made, Some(uid), Some(gid))?;
    fchmod(made, Mode::from_raw_mode(header.mode()? & 0o7777))?;
    Ok(())
}

fn mtime(header: &tar::Header) -> io::Result<i64> {
    i64::try_from(header.mtime()?).map_err(|_| io::Error::other("a time beyond 64 bits"))
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Extended attributes that an image may carry: file capabilities and users' own.
fn attributes(entry: &mut Entry<'_, impl Read>, made: &OwnedFd) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else { continue };
        if name == "security.capability" || name.starts_with("user.") {
            match fsetxattr(made, name, extension.value_bytes(), XattrFlags::empty()) {
                // A filesystem without users' attributes keeps the file without them.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
