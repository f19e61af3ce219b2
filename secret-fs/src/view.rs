//! What one task sees: its tree, its open files, and what the kernel must be told after a change.
//!
//! Shared between the control connections, which change it, and the task's FUSE session, which reads it. One lock; a
//! read holds it until its reply is written, so that whoever retracts knows, when the lock is his, that no plaintext
//! of this task is on its way. The kernel is notified without the lock: an invalidation may wait for a request that
//! the session can only answer with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::fs::{Grant, Target};
use secretd_proto::id::{SecretId, TaskId};

use crate::bounce::Bounce;
use crate::payload::Payload;
use crate::tree::{File, LINK_TARGET, Node, TargetRefused, Tree};

/// One version of one secret, as a file holds it.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) epoch: u64,
    pub(crate) payload: Arc<Payload>,
    /// When this version came, in nanoseconds since 1970.
    pub(crate) since: i64,
}

/// The kinds of inodes, as stat(2) tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Link,
}

/// What stat(2) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) ino: u64,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Nanoseconds since 1970.
    pub(crate) modified: i64,
}

/// Something that the kernel may have cached and must drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Attributes and pages of an inode.
    Inode(u64),
    /// A name in a directory, and the file that it had, whose watchers are told.
    Entry { parent: u64, ino: u64, name: String },
}

/// Why there is no handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenRefused {
    /// The secret was withdrawn, or all of the task's were retracted.
    Retracted,
    /// The task has [`MAX_HANDLES`] open.
    TooMany,
}

/// Open files of one task: bounds the memory that a container can make this process use.
pub(crate) const MAX_HANDLES: usize = 16_384;

/// Why an open file gives no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadRefused {
    /// The secret was withdrawn, or all of the task's were retracted.
    Retracted,
    /// The handle is not one for reading.
    NotReadable,
}

/// One task's files.
#[derive(Debug)]
pub(crate) struct TaskView {
    task: TaskId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tree: Tree<Content>,
    made: i64,
    handles: HashMap<u64, Handle>,
    next_handle: u64,
    retracted: bool,
}

#[derive(Debug)]
enum Handle {
    /// Keeps the version that it opened.
    Reader { content: Content, opener: u32 },
    /// The shim's, which wakes watchers; holds nothing.
    Writer,
    /// A reader's of a secret that was withdrawn.
    Withdrawn,
}

impl TaskView {
    /// A view of these files.
    pub(crate) fn new(task: TaskId, tree: Tree<Content>, now: i64) -> Self {
        let state = State { tree, made: now, handles: HashMap::new(), next_handle: 1, retracted: false };
        Self { task, state: Mutex::new(state) }
    }

    /// Whose view.
    pub(crate) fn task(&self) -> TaskId {
        self.task
    }

    /// The content of the file at a target.
    pub(crate) fn content_at(&self, target: &Target) -> Option<Content> {
        self.state.lock().tree.file(target).map(|(_, file)| file.payload.clone())
    }

    /// Secret, version and epoch of each file.
    pub(crate) fn grants(&self) -> Vec<(SecretId, u64, u64)> {
        let state = self.state.lock();
        state.tree.files().map(|(_, File { payload, .. })| (payload.secret, payload.version, payload.epoch)).collect()
    }

    /// Replaces the whole set of files; handles keep theirs. Gives the targets whose bytes are new, and what is stale.
    ///
    /// # Errors
    /// When the files make no tree: nothing has changed.
    pub(crate) fn replace(
        &self,
        files: Vec<File<Content>>,
        now: i64,
    ) -> Result<(Vec<Target>, Vec<Stale>), TargetRefused> {
        let mut state = self.state.lock();
        let mut files = files;
        let mut changed = Vec::new();
        for file in &mut files {
            match state.tree.file(&file.target) {
                Some((_, before)) if before.payload.is_same_version(&file.payload) => {
                    file.payload.since = before.payload.since;
                }
                Some(_) | None => changed.push(file.target.clone()),
            }
        }
        let tree = Tree::build(files, Some(&state.tree))?;
        let mut stale: Vec<Stale> = tree.files().map(|(ino, _)| Stale::Inode(ino)).collect();
        let gone = state.tree.entries().filter(|&(parent, name, ino)| tree.lookup(parent, name) != Some(ino));
        stale.extend(gone.map(|(parent, name, ino)| Stale::Entry { parent, ino, name: name.to_owned() }));
        state.tree = tree;
        state.made = now;
        Ok((changed, stale))
    }

    /// Gives files that exist new content, owner and mode, and withdraws those that are not named: their open files give
    /// no more bytes. Gives the targets whose bytes are new or gone, and what is stale.
    ///
    /// # Errors
    /// The first target that is not published, or holds another secret: nothing has changed.
    pub(crate) fn update(&self, files: Vec<File<Content>>) -> Result<(Vec<Target>, Vec<Stale>), TargetRefused> {
        let mut state = self.state.lock();
        let mut places = Vec::with_capacity(files.len());
        for file in &files {
            match state.tree.file(&file.target) {
                Some((ino, before)) if before.payload.secret == file.payload.secret => places.push(ino),
                Some(_) | None => return Err(TargetRefused(file.target.path_in_container())),
            }
        }
        let (mut changed, mut stale) = state.withdraw_others(&places);
        for (mut file, ino) in files.into_iter().zip(places) {
            let Some(place) = state.tree.file_mut(ino) else { continue };
            if place.payload.is_same_version(&file.payload) {
                file.payload.since = place.payload.since;
            } else {
                changed.push(file.target.clone());
            }
            *place = file;
            stale.push(Stale::Inode(ino));
        }
        Ok((changed, stale))
    }

    /// Ends all reading: drops every file and handle, and with them the plaintext that nobody else uses. No read of
    /// this task is under way when it returns.
    pub(crate) fn retract(&self) -> Vec<Stale> {
        let mut state = self.state.lock();
        let mut stale: Vec<Stale> = state.tree.files().map(|(ino, _)| Stale::Inode(ino)).collect();
        let entries = state.tree.entries().filter(|(_, _, ino)| matches!(state.tree.node(*ino), Some(Node::File(_))));
        stale.extend(entries.map(|(parent, name, ino)| Stale::Entry { parent, ino, name: name.to_owned() }));
        state.tree = Tree::empty();
        state.handles.clear();
        state.retracted = true;
        stale
    }

    /// What stat(2) shows of an inode.
    pub(crate) fn attributes(&self, ino: u64) -> Option<Attributes> {
        self.state.lock().attributes(ino)
    }

    /// What stat(2) shows of a name in a directory.
    pub(crate) fn lookup(&self, parent: u64, name: &str) -> Option<Attributes> {
        let state = self.state.lock();
        state.attributes(state.tree.lookup(parent, name)?)
    }

    /// Gives each entry of a directory from `offset` on to `add` (inode, next offset, kind, name) until it says that
    /// there is no more room; gives false when there is no such directory.
    pub(crate) fn list(&self, ino: u64, offset: usize, mut add: impl FnMut(u64, u64, Kind, &str) -> bool) -> bool {
        let state = self.state.lock();
        let Some(entries) = state.tree.list(ino) else { return false };
        for ((name, ino), next) in entries.into_iter().zip(1..).skip(offset) {
            let kind = state.attributes(ino).map_or(Kind::Directory, |attributes| attributes.kind);
            if add(ino, next, kind, name) {
                break;
            }
        }
        true
    }

    /// Where a link points.
    pub(crate) fn link_target(&self, ino: u64) -> Option<&'static str> {
        matches!(self.state.lock().tree.node(ino)?, Node::Link).then_some(LINK_TARGET)
    }

    /// What the file with this inode number holds now.
    pub(crate) fn content(&self, ino: u64) -> Option<Content> {
        match self.state.lock().tree.node(ino)? {
            Node::File(file) => Some(file.payload.clone()),
            Node::Directory { .. } | Node::Link => None,
        }
    }

    /// A handle that reads `content` of the file `ino` for the thread `opener`.
    ///
    /// # Errors
    /// See [`OpenRefused`]. What was withdrawn since `content` was looked up is not opened: its handles have been told.
    pub(crate) fn open_reader(&self, ino: u64, content: Content, opener: u32) -> Result<u64, OpenRefused> {
        let mut state = self.state.lock();
        match state.tree.node(ino) {
            Some(Node::File(file)) if file.payload.secret == content.secret => {}
            Some(_) | None => return Err(OpenRefused::Retracted),
        }
        state.open(Handle::Reader { content, opener })
    }

    /// A handle for waking watchers.
    ///
    /// # Errors
    /// See [`OpenRefused`].
    pub(crate) fn open_writer(&self) -> Result<u64, OpenRefused> {
        self.state.lock().open(Handle::Writer)
    }

    /// Whether the handle is one of [`TaskView::open_writer`].
    pub(crate) fn is_writer(&self, handle: u64) -> bool {
        matches!(self.state.lock().handles.get(&handle), Some(Handle::Writer))
    }

    /// The thread that opened a reader, and what it reads.
    pub(crate) fn reader(&self, handle: u64) -> Option<(u32, Content)> {
        match self.state.lock().handles.get(&handle)? {
            Handle::Reader { content, opener } => Some((*opener, content.clone())),
            Handle::Writer | Handle::Withdrawn => None,
        }
    }

    /// Drops a handle.
    pub(crate) fn release(&self, handle: u64) {
        self.state.lock().handles.remove(&handle);
    }

    /// Gives bytes of an open file to `send`, through `bounce`.
    pub(crate) fn read<T>(
        &self,
        handle: u64,
        range: (u64, usize),
        bounce: &Bounce,
        send: impl FnOnce(Result<&[u8], ReadRefused>) -> T,
    ) -> T {
        let state = self.state.lock();
        match state.handles.get(&handle) {
            Some(Handle::Reader { content, .. }) => {
                bounce.lend(&content.payload, range.0, range.1, |bytes| send(Ok(bytes)))
            }
            Some(Handle::Withdrawn) => send(Err(ReadRefused::Retracted)),
            Some(Handle::Writer) => send(Err(ReadRefused::NotReadable)),
            None if state.retracted => send(Err(ReadRefused::Retracted)),
            None => send(Err(ReadRefused::NotReadable)),
        }
    }

    /// Makes the new link beside the secrets.
    pub(crate) fn make_link(&self) -> Option<Attributes> {
        let mut state = self.state.lock();
        let ino = state.tree.make_link()?;
        state.attributes(ino)
    }

    /// Renames the new link over the old one; gives whether there was one to rename.
    pub(crate) fn rename_link(&self) -> bool {
        self.state.lock().tree.rename_link()
    }

    /// Removes a new link that was never renamed; gives whether there was one.
    pub(crate) fn remove_new_link(&self) -> bool {
        self.state.lock().tree.remove_new_link()
    }
}

impl State {
    /// Takes away every file but those at `places`, and what their open files read. Gives the targets and what is stale.
    fn withdraw_others(&mut self, places: &[u64]) -> (Vec<Target>, Vec<Stale>) {
        let others = self.tree.files().filter(|(ino, _)| !places.contains(ino));
        let others: Vec<(u64, Target)> = others.map(|(ino, file)| (ino, file.target.clone())).collect();
        let mut stale = Vec::new();
        for (ino, _) in &others {
            stale.push(Stale::Inode(*ino));
            stale.extend(self.tree.remove_file(*ino).map(|(parent, name)| Stale::Entry { parent, ino: *ino, name }));
        }
        if !others.is_empty() {
            let kept: HashSet<SecretId> = self.tree.files().map(|(_, file)| file.payload.secret).collect();
            for handle in self.handles.values_mut() {
                if matches!(handle, Handle::Reader { content, .. } if !kept.contains(&content.secret)) {
                    *handle = Handle::Withdrawn;
                }
            }
        }
        (others.into_iter().map(|(_, target)| target).collect(), stale)
    }

    fn open(&mut self, handle: Handle) -> Result<u64, OpenRefused> {
        if self.retracted {
            return Err(OpenRefused::Retracted);
        }
        if self.handles.len() >= MAX_HANDLES {
            return Err(OpenRefused::TooMany);
        }
        let number = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(number, handle);
        Ok(number)
    }

    fn attributes(&self, ino: u64) -> Option<Attributes> {
        let attributes = match self.tree.node(ino)? {
            Node::Directory { .. } => {
                Attributes { ino, kind: Kind::Directory, size: 0, mode: 0o755, uid: 0, gid: 0, modified: self.made }
            }
            Node::Link => Attributes {
                ino,
                kind: Kind::Link,
                size: LINK_TARGET.len() as u64,
                mode: 0o777,
                uid: 0,
                gid: 0,
                modified: self.made,
            },
            Node::File(file) => Attributes {
                ino,
                kind: Kind::File,
                size: file.payload.payload.len() as u64,
                mode: file.mode & 0o777,
                uid: file.uid,
                gid: file.gid,
                modified: file.payload.since,
            },
        };
        Some(attributes)
    }
}

impl Content {
    fn is_same_version(&self, other: &Self) -> bool {
        self.secret == other.secret && self.version == other.version
    }
}

/// The file that a grant makes of an opened payload.
pub(crate) fn file_of(grant: &Grant, payload: Arc<Payload>, now: i64) -> File<Content> {
    File {
        target: grant.target.clone(),
        uid: grant.uid,
        gid: grant.gid,
        mode: grant.mode,
        payload: Content { secret: grant.secret, version: grant.version, epoch: grant.epoch, payload, since: now },
    }
}
