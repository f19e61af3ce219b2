//! A container's secrets: the mount that secret-fs serves, made here and put into the container's mount namespace.
//!
//! The mount itself is attached in the shim's own namespace, where the shim keeps it as the private, writable clone:
//! secret-fs takes writes from the shim's process alone, and only to make events. The container gets read-only clones
//! of the directory of secrets and of each file with an absolute target.
//!
//! Without FUSE the same tree is a memory filesystem, whose files secret-fs fills through descriptors.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sched::{CloneFlags, setns};
use rustix::fs::CWD;
use secretd_proto::fs::{
    CgroupPaths, DATA_LINK, DATA_LINK_NEW, PROTOCOL, Refusal, Request, Response, SECRETS_DIRECTORY, Target,
};
use secretd_proto::id::TaskId;
use secretd_sys::mount_api::{self, FuseOwner, MemoryFilesystem, MountError};
use secretd_sys::{child, frame};

use crate::shim_config::{Backend, SecretFile, SecretsPlan};

/// Where secrets appear in a container.
pub(super) const DIRECTORY: &str = "/run/secrets";

/// How long secret-fs may take to answer: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// The step that failed, for the task's status.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretsError {
    #[error("/dev/fuse: {0}")]
    Device(#[source] io::Error),
    #[error("secrets: {0}")]
    Mount(String),
    #[error("secret-fs: {0}")]
    Socket(#[source] io::Error),
    #[error("secret-fs: {0}")]
    Send(#[from] frame::SendError),
    #[error("secret-fs: {0}")]
    Receive(#[from] frame::ReceiveError),
    #[error("secret-fs: {0}")]
    Refused(#[from] Refusal),
    #[error("secret-fs gave an answer that does not fit the question")]
    Answer,
    #[error("{path}: {source}")]
    File { path: Utf8PathBuf, source: io::Error },
    #[error("the secrets cannot be mounted in the container: {0}")]
    Child(#[from] child::ChildError),
    #[error("the secrets cannot be mounted on {0} in the container")]
    Attach(String),
}

impl From<MountError> for SecretsError {
    fn from(error: MountError) -> Self {
        Self::Mount(super::create::chain(&error))
    }
}

/// The secrets of one running container.
#[derive(Debug)]
pub(super) struct Secrets {
    task: TaskId,
    plan: SecretsPlan,
    private: Utf8PathBuf,
    /// The descriptor that names the container's mount namespace.
    namespace: File,
    cgroup: CgroupPaths,
    backend: &'static str,
}

/// What [`Secrets::attach`] needs to know of the container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) task: TaskId,
    /// Its first process, not started yet.
    pub(super) pid: i32,
    pub(super) cgroup: CgroupPaths,
}

impl Secrets {
    /// Makes the mount and puts it into the container. `private` is a path in this process's own mount namespace.
    pub(super) fn attach(plan: &SecretsPlan, private: &Utf8Path, container: Container) -> Result<Self, SecretsError> {
        let path = Utf8PathBuf::from(format!("/proc/{}/ns/mnt", container.pid));
        let namespace = File::open(&path).map_err(|source| SecretsError::File { path, source })?;
        let mut secrets = Self {
            task: container.task,
            plan: plan.clone(),
            private: private.to_owned(),
            namespace,
            cgroup: container.cgroup,
            backend: "",
        };
        secrets.mount(Place::New)?;
        Ok(secrets)
    }

    /// `fuse`, `tmpfs` or `ramfs`.
    pub(super) fn backend(&self) -> &'static str {
        self.backend
    }

    /// A new mount in place of one whose server is gone.
    pub(super) fn remount(&mut self) -> Result<(), SecretsError> {
        // The old one is gone from here at once, and in the container when the new one is ready.
        match mount_api::detach(self.private.as_str()) {
            Err(error) if !error.is_no_mount() => return Err(error.into()),
            _ => {} // an earlier attempt may have got this far
        }
        self.mount(Place::Replace)
    }

    fn mount(&mut self, place: Place) -> Result<(), SecretsError> {
        std::fs::create_dir_all(&self.private).map_err(at(&self.private))?;
        self.backend = match self.plan.backend {
            Backend::Fuse => self.mount_fuse()?,
            Backend::Memory => self.mount_memory()?,
        };
        let clones = self.clones()?;
        let namespace = self.namespace.as_fd();
        // The namespace of this process stays its own: a child enters the container's.
        let answer = child::in_child(|| match enter_and_attach(namespace, &clones, place) {
            Ok(()) => 0,
            Err(number) => number,
        })?;
        match usize::from(answer).checked_sub(1) {
            None => Ok(()),
            Some(number) => {
                let target = clones.get(number).map_or(DIRECTORY, |(_, target)| target.as_str());
                Err(SecretsError::Attach(target.to_owned()))
            }
        }
    }

    fn mount_fuse(&self) -> Result<&'static str, SecretsError> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(SecretsError::Device)?;
        let mount = mount_api::fuse(device.as_fd(), c"secret-fs", FuseOwner { uid: 0, gid: 0 })?;
        let request = Request::Attach { task: self.task, cgroup: self.cgroup.clone() };
        self.ask(&request, &[device.as_fd()])?;
        mount_api::attach(mount.as_fd(), CWD, self.private.as_str())?;
        Ok("fuse")
    }

    fn mount_memory(&self) -> Result<&'static str, SecretsError> {
        /// The files of a task, with room for a second version of each.
        const SIZE: u64 = 256 * 1024 * 1024;
        let (mount, kind) = mount_api::unswapped_memory(SIZE)?;
        mount_api::attach(mount.as_fd(), CWD, self.private.as_str())?;
        let directory = self.private.join(SECRETS_DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(at(&directory))?;
        let link = directory.join(DATA_LINK);
        symlink(".", &link).map_err(at(&link))?;
        for file in &self.plan.files {
            let path = self.private.join(file.target.path_in_filesystem());
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(at(parent))?;
                open_up(&self.private, parent)?;
            }
            self.fill(file, &path).or_else(|error| withdrawn(error, &path))?;
        }
        Ok(match kind {
            MemoryFilesystem::TmpfsNoswap => "tmpfs",
            MemoryFilesystem::Ramfs => "ramfs",
        })
    }

    /// Has secret-fs write a file that only its owner could have opened before.
    fn fill(&self, file: &SecretFile, path: &Utf8Path) -> Result<(), SecretsError> {
        let opened =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(at(path))?;
        chown(path, Some(file.uid), Some(file.gid)).map_err(at(path))?;
        self.ask(&Request::Fill { task: self.task, target: file.target.clone() }, &[opened.as_fd()])?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(file.mode)).map_err(at(path))
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), SecretsError> {
        let socket = UnixStream::connect(&self.plan.socket).map_err(SecretsError::Socket)?;
        // A secret-fs that does not answer must not stop the container's output.
        socket.set_read_timeout(Some(PATIENCE)).map_err(SecretsError::Socket)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(SecretsError::Socket)?;
        frame::send(&socket, &Request::Hello { protocol: PROTOCOL }, &[])?;
        match frame::receive(&socket)?.0 {
            Response::Hello { .. } => {}
            Response::Refused(refusal) => return Err(refusal.into()),
            Response::Done | Response::Changed { .. } | Response::Status(_) => return Err(SecretsError::Answer),
        }
        frame::send(&socket, request, descriptors)?;
        match frame::receive(&socket)?.0 {
            Response::Done => Ok(()),
            Response::Refused(refusal) => Err(refusal.into()),
            Response::Hello { .. } | Response::Changed { .. } | Response::Status(_) => Err(SecretsError::Answer),
        }
    }

    /// Read-only clones, and where they go in the container.
    fn clones(&self) -> Result<Vec<(OwnedFd, String)>, SecretsError> {
        let clone = |path: String, target: &str| {
            let mount = mount_api::clone_subtree(CWD, self.private.join(path).as_str())?;
            mount_api::set_read_only(mount.as_fd())?;
            Ok::<_, MountError>((mount, target.to_owned()))
        };
        let mut clones = Vec::new();
        if self.plan.files.iter().any(|file| matches!(file.target, Target::Relative(_))) {
            clones.push(clone(SECRETS_DIRECTORY.to_owned(), DIRECTORY)?);
        }
        for file in &self.plan.files {
            let path_in_filesystem = file.target.path_in_filesystem();
            if let Target::Absolute(path) = &file.target
                && self.private.join(&path_in_filesystem).exists()
            // else it was withdrawn
            {
                clones.push(clone(path_in_filesystem, path)?);
            }
        }
        Ok(clones)
    }

    /// Wakes the watchers of changed files, paths below the filesystem's root: MODIFY and CLOSE_WRITE on each file,
    /// MOVED_TO in the directory.
    /// Goes on past a file that fails: the first error is told at the end.
    pub(super) fn wake(&self, paths: &[String]) -> Result<(), SecretsError> {
        let wake_one = |path: &String| {
            let full = self.private.join(path);
            match self.plan.backend {
                Backend::Fuse => match OpenOptions::new().write(true).open(&full) {
                    Ok(mut file) => file.write_all(b"\0").map_err(at(&full)), // secret-fs takes it for the event alone
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // withdrawn: secret-fs has told
                    Err(error) => Err(at(&full)(error)),
                },
                Backend::Memory => self.refill(path, &full),
            }
        };
        let failed = paths.iter().map(wake_one).fold(Ok(()), Result::and);
        if paths.iter().any(|path| path.starts_with(SECRETS_DIRECTORY)) {
            let directory = self.private.join(SECRETS_DIRECTORY);
            let (new, link) = (directory.join(DATA_LINK_NEW), directory.join(DATA_LINK));
            let _ = std::fs::remove_file(&new); // left by a shim that ended in between
            symlink(".", &new).map_err(at(&new))?;
            std::fs::rename(&new, &link).map_err(at(&link))?;
        }
        failed
    }

    /// The new version of a file in memory: under another name, then renamed, and the old one cut before it goes. A file
    /// that is mounted by itself cannot be renamed over: it is written in place.
    fn refill(&self, path: &str, full: &Utf8Path) -> Result<(), SecretsError> {
        let Some(file) = self.plan.files.iter().find(|file| file.target.path_in_filesystem() == path) else {
            return Ok(());
        };
        if matches!(file.target, Target::Absolute(_)) {
            return self.fill(file, full).or_else(|error| withdrawn(error, full));
        }
        let old = match OpenOptions::new().write(true).open(full) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // withdrawn by an earlier attempt
            Err(error) => return Err(at(full)(error)),
        };
        let new = full.with_file_name(format!("..new-{}", full.file_name().unwrap_or_default()));
        if let Err(error) = self.fill(file, &new) {
            withdrawn(error, &new)?;
            old.set_len(0).map_err(at(full))?;
            return std::fs::remove_file(full).map_err(at(full));
        }
        std::fs::rename(&new, full).map_err(at(full))?;
        old.set_len(0).map_err(at(full))
    }

    /// Cuts the files of a memory filesystem, so that nothing of them stays in pages that are still open somewhere.
    pub(super) fn wipe(&self) {
        if self.plan.backend == Backend::Memory {
            for file in &self.plan.files {
                let path = self.private.join(file.target.path_in_filesystem());
                let _ = OpenOptions::new().write(true).truncate(true).open(path);
            }
        }
    }
}

/// Removes the file that was to be filled where its secret was withdrawn; any other error stays one.
fn withdrawn(error: SecretsError, path: &Utf8Path) -> Result<(), SecretsError> {
    if matches!(error, SecretsError::Refused(Refusal::Target(_))) {
        return std::fs::remove_file(path).map_err(at(path));
    }
    Err(error)
}

/// Whether there is a mount to take away first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    New,
    Replace,
}

fn at(path: &Utf8Path) -> impl Fn(io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::File { path: path.clone(), source }
}

/// The umask of the shim closes what it makes; directories of secrets are for all, as their files' modes decide.
fn open_up(root: &Utf8Path, directory: &Utf8Path) -> Result<(), SecretsError> {
    for path in directory.ancestors().take_while(|path| *path != root) {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(at(path))?;
    }
    Ok(())
}

/// Makes what a clone is attached to where it is missing: a directory for that of the secrets, else a file. No symbolic
/// link of a volume leads out: the container's root is this process's own.
fn make_place(target: &str) -> io::Result<()> {
    if target == DIRECTORY {
        return std::fs::create_dir_all(target);
    }
    if let Some((parent, _)) = target.rsplit_once('/') {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(target).map(drop)
}

/// In a child: enters the namespace and attaches each clone. The error is the number of the one that failed, from 1.
fn enter_and_attach(namespace: BorrowedFd<'_>, clones: &[(OwnedFd, String)], place: Place) -> Result<(), u8> {
    setns(namespace, CloneFlags::CLONE_NEWNS).map_err(|_| u8::MAX)?;
    for (index, (mount, target)) in clones.iter().enumerate() {
        let number = u8::try_from(index + 1).unwrap_or(u8::MAX);
        if place == Place::Replace {
            let _ = mount_api::detach(target); // the new one goes on top where the old one is gone already
        } else {
            // What the image got for this may be below a volume or another mount of the container. Attaching says what
            // is wrong.
            let _ = make_place(target);
        }
        mount_api::attach(mount.as_fd(), CWD, target).map_err(|_| number)?;
    }
    Ok(())
}
