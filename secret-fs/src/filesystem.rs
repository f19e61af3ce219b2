//! The FUSE filesystem of one task: turns requests into questions to the task's [`TaskView`] and answers them.
//!
//! Every open is checked and recorded here, before it is answered; every read by another thread than the opener's is
//! checked again, because descriptors travel between processes. Deliberately absent: the page cache (direct I/O), and
//! every operation that changes something but those with which the shim wakes watchers.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use secretd_proto::fs::{CgroupPaths, DATA_LINK, DATA_LINK_NEW};

use crate::access::is_in_group;
use crate::audit::{Audit, Outcome, Reason, Record};
use crate::bounce::Bounce;
use crate::caller::{Caller, Shim};
use crate::clock;
use crate::next_request::NextRequest;
use crate::tree::{LINK_TARGET, SECRETS};
use crate::view::{Attributes, Content, Kind, OpenRefused, ReadRefused, TaskView};

/// One task's filesystem, as one mount shows it.
#[derive(Debug)]
pub(crate) struct TaskFilesystem {
    pub(crate) view: Arc<TaskView>,
    pub(crate) cgroup: CgroupPaths,
    pub(crate) shim: Arc<Shim>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) bounce: Arc<Bounce>,
    pub(crate) next_request: NextRequest,
}

/// The kernel may keep names and attributes this long: it is told of every change.
const KEEP: Duration = Duration::from_secs(3600);

/// The largest request: lets the kernel ask for a whole secret at once.
const MAX_REQUEST: u32 = 1024 * 1024;

impl TaskFilesystem {
    /// Who the caller is and whether the task's secrets are for it.
    fn judge(&self, thread: u32) -> (u32, Outcome) {
        if thread == 0 {
            return (0, Outcome::Refused(Reason::NoThread));
        }
        match Caller::look(thread) {
            Ok(caller) if is_in_group(&caller.cgroup, &self.cgroup) => (caller.process, Outcome::Allowed),
            Ok(caller) => (caller.process, Outcome::Refused(Reason::Cgroup)),
            Err(_) => (0, Outcome::Refused(Reason::NotShown)),
        }
    }

    fn record(
        &self,
        request: &Request,
        process: u32,
        content: Option<&Content>,
        outcome: Outcome,
    ) -> Result<(), Errno> {
        let record = Record {
            task: self.view.task(),
            secret: content.map(|content| (content.secret, content.version)),
            process,
            thread: request.pid(),
            uid: request.uid(),
            gid: request.gid(),
            outcome,
        };
        let written = self.audit.record(&record, clock::now());
        match outcome {
            Outcome::Allowed | Outcome::Attached | Outcome::Filled => written.map_err(|_| Errno::EIO),
            Outcome::Refused(_) => Err(Errno::EACCES),
        }
    }

    fn open_for_reading(&self, request: &Request, ino: u64) -> Result<u64, Errno> {
        let content = self.view.content(ino);
        let (process, judged) = self.judge(request.pid());
        let outcome = match (&content, judged) {
            (None, Outcome::Allowed) => Outcome::Refused(Reason::Retracted),
            (Some(_) | None, outcome) => outcome,
        };
        self.record(request, process, content.as_ref(), outcome)?;
        let content = content.ok_or(Errno::EACCES)?;
        self.view.open_reader(ino, content, request.pid()).map_err(errno_of)
    }

    fn open_for_waking(&self, request: &Request, ino: u64) -> Result<u64, Errno> {
        if self.shim.is(request.pid()) {
            return self.view.open_writer().map_err(errno_of);
        }
        self.refuse_writing(request, ino)
    }

    fn refuse_writing(&self, request: &Request, ino: u64) -> Result<u64, Errno> {
        let (process, _) = self.judge(request.pid());
        let content = self.view.content(ino);
        self.record(request, process, content.as_ref(), Outcome::Refused(Reason::Write))?;
        Err(Errno::EACCES)
    }

    /// A descriptor may have been passed on: the reader is judged unless it is the thread that was judged at open.
    fn judge_reader(&self, request: &Request, handle: u64) -> Result<(), Errno> {
        let Some((opener, content)) = self.view.reader(handle) else { return Ok(()) };
        if opener == request.pid() {
            return Ok(());
        }
        match self.judge(request.pid()) {
            (_, Outcome::Allowed | Outcome::Attached | Outcome::Filled) => Ok(()),
            (process, Outcome::Refused(Reason::Cgroup)) => {
                self.record(request, process, Some(&content), Outcome::Refused(Reason::PassedOn))
            }
            (process, outcome @ Outcome::Refused(_)) => self.record(request, process, Some(&content), outcome),
        }
    }
}

impl Filesystem for TaskFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // The kernel derives the largest read from the largest write. A refused value means that the kernel's own
        // limit is lower: reads then come in parts.
        let _ = config.set_max_write(MAX_REQUEST);
        let _ = config.set_max_readahead(MAX_REQUEST);
        let _ = config.add_capabilities(InitFlags::FUSE_MAX_PAGES);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| self.view.lookup(parent.0, name)) {
            Some(attributes) => reply.entry(&KEEP, &stat(&attributes), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.view.attributes(ino.0) {
            Some(attributes) => reply.attr(&KEEP, &stat(&attributes)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        _modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _check: Option<SystemTime>,
        _backup: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // The shim may touch times, which wakes watchers with ATTRIB; they do not change.
        let changes = mode.is_some() || uid.is_some() || gid.is_some() || size.is_some();
        match self.view.attributes(ino.0) {
            Some(attributes) if !changes && self.shim.is(request.pid()) => reply.attr(&KEEP, &stat(&attributes)),
            Some(_) => reply.error(Errno::EROFS),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.view.link_target(ino.0) {
            Some(target) => reply.data(target.as_bytes()),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => self.open_for_reading(request, ino.0),
            OpenAccMode::O_WRONLY => self.open_for_waking(request, ino.0),
            OpenAccMode::O_RDWR => self.refuse_writing(request, ino.0),
        };
        match opened {
            Ok(handle) => {
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH);
                self.next_request.expect();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Err(errno) = self.judge_reader(request, handle.0) {
            return reply.error(errno);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.view.read(handle.0, (offset, size), &self.bounce, |bytes| match bytes {
            Ok(bytes) => reply.data(bytes),
            Err(ReadRefused::Retracted) => reply.error(Errno::EACCES),
            Err(ReadRefused::NotReadable) => reply.error(Errno::EBADF),
        });
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match u32::try_from(data.len()) {
            Ok(length) if self.shim.is(request.pid()) && self.view.is_writer(handle.0) => reply.written(length),
            Ok(_) | Err(_) => reply.error(Errno::EACCES),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.view.release(handle.0);
        reply.ok();
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let listed =
            self.view.list(ino.0, offset, |ino, next, kind, name| reply.add(INodeNo(ino), next, file_type(kind), name));
        if listed { reply.ok() } else { reply.error(Errno::ENOTDIR) }
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let files = self.view.grants().len() as u64;
        reply.statfs(0, 0, 0, files, 0, BLOCK, 255, BLOCK);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        if !self.shim.is(request.pid()) {
            return reply.error(Errno::EROFS);
        }
        if parent.0 != SECRETS || name != DATA_LINK_NEW || target.as_os_str() != LINK_TARGET {
            return reply.error(Errno::EPERM);
        }
        match self.view.make_link() {
            Some(attributes) => reply.entry(&KEEP, &stat(&attributes), Generation(0)),
            None => reply.error(Errno::EEXIST),
        }
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let known = (parent.0, new_parent.0) == (SECRETS, SECRETS) && name == DATA_LINK_NEW && new_name == DATA_LINK;
        if !self.shim.is(request.pid()) {
            reply.error(Errno::EROFS);
        } else if !known || !flags.is_empty() {
            reply.error(Errno::EPERM);
        } else if self.view.rename_link() {
            reply.ok();
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !self.shim.is(request.pid()) {
            reply.error(Errno::EROFS);
        } else if parent.0 != SECRETS || name != DATA_LINK_NEW {
            reply.error(Errno::EPERM);
        } else if self.view.remove_new_link() {
            reply.ok();
        } else {
            reply.error(Errno::ENOENT);
        }
    }
}

const BLOCK: u32 = 4096;

fn errno_of(refused: OpenRefused) -> Errno {
    match refused {
        OpenRefused::Retracted => Errno::EACCES,
        OpenRefused::TooMany => Errno::ENFILE,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

fn stat(attributes: &Attributes) -> FileAttr {
    let modified = UNIX_EPOCH + Duration::from_nanos(u64::try_from(attributes.modified).unwrap_or(0));
    FileAttr {
        ino: INodeNo(attributes.ino),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: file_type(attributes.kind),
        perm: u16::try_from(attributes.mode & 0o7777).unwrap_or(0),
        nlink: if attributes.kind == Kind::Directory { 2 } else { 1 },
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}
