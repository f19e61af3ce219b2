//! The inodes of one task's filesystem. Pure: no clock, no IO, no payload bytes.
//!
//! Layout: the root holds `secrets/` (mounted on `/run/secrets`) with the relative targets, their directories and the
//! link `..data`; and `absolute/`, whose files are mounted one by one. `P` is what a file holds, which this module only
//! passes on.
//!
//! A path keeps its inode number for the life of the tree, whatever its file holds: the kernel caches by number, and a
//! secret-fs that takes over a mount must find what was cached before.

use std::collections::BTreeMap;

use secretd_proto::fs::{ABSOLUTE_DIRECTORY, DATA_LINK, DATA_LINK_NEW, SECRETS_DIRECTORY, Target};

/// The root directory, by the protocol of the kernel.
pub(crate) const ROOT: u64 = 1;
/// The directory of the relative targets.
pub(crate) const SECRETS: u64 = 2;
const ABSOLUTE: u64 = 3;
const FIRST_FREE: u64 = 16;

/// Where the link beside the secrets points: its own directory, so that `..data/NAME` is `NAME`.
pub(crate) const LINK_TARGET: &str = ".";

/// One file to put into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File<P> {
    /// Which file.
    pub(crate) target: Target,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// What it holds.
    pub(crate) payload: P,
}

/// What an inode is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Node<P> {
    /// Names and inode numbers, in the order of listing.
    Directory { parent: u64, children: BTreeMap<String, u64> },
    /// A secret.
    File(File<P>),
    /// A symbolic link to [`LINK_TARGET`].
    Link,
}

/// Why files make no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetRefused(pub(crate) String);

/// The inodes of one task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tree<P> {
    nodes: BTreeMap<u64, Node<P>>,
    next: u64,
}

impl<P> Tree<P> {
    /// A tree without files, as it is after a task's secrets are retracted.
    pub(crate) fn empty() -> Self {
        let directory = |parent, children: &[(&str, u64)]| Node::Directory {
            parent,
            children: children.iter().map(|&(name, ino)| (name.to_owned(), ino)).collect(),
        };
        let nodes = BTreeMap::from([
            (ROOT, directory(ROOT, &[(ABSOLUTE_DIRECTORY, ABSOLUTE), (SECRETS_DIRECTORY, SECRETS)])),
            (SECRETS, directory(ROOT, &[(DATA_LINK, FIRST_FREE)])),
            (ABSOLUTE, directory(ROOT, &[])),
            (FIRST_FREE, Node::Link),
        ]);
        Self { nodes, next: FIRST_FREE + 1 }
    }

    /// A tree of these files; paths that are in `before` keep their inode numbers.
    ///
    /// # Errors
    /// The target that is not allowed, is there twice, or is a directory of another one.
    pub(crate) fn build(files: Vec<File<P>>, before: Option<&Self>) -> Result<Self, TargetRefused> {
        let mut tree = Self::empty();
        if let Some(before) = before {
            tree.next = before.next;
            if let Some(link) = before.lookup(SECRETS, DATA_LINK) {
                tree.nodes.remove(&FIRST_FREE);
                tree.nodes.insert(link, Node::Link);
                tree.link(SECRETS, DATA_LINK, link);
            }
        }
        for file in files {
            tree.insert(file, before)?;
        }
        Ok(tree)
    }

    /// The inode with this number.
    pub(crate) fn node(&self, ino: u64) -> Option<&Node<P>> {
        self.nodes.get(&ino)
    }

    /// The inode number of a name in a directory.
    pub(crate) fn lookup(&self, parent: u64, name: &str) -> Option<u64> {
        match self.nodes.get(&parent)? {
            Node::Directory { children, .. } => children.get(name).copied(),
            Node::File(_) | Node::Link => None,
        }
    }

    /// The inode number of the file at a target, and the file.
    pub(crate) fn file(&self, target: &Target) -> Option<(u64, &File<P>)> {
        let ino = self.path(&target.path_in_filesystem())?;
        match self.nodes.get(&ino)? {
            Node::File(file) if file.target == *target => Some((ino, file)),
            Node::File(_) | Node::Directory { .. } | Node::Link => None,
        }
    }

    /// The file with this inode number, to be changed.
    pub(crate) fn file_mut(&mut self, ino: u64) -> Option<&mut File<P>> {
        match self.nodes.get_mut(&ino)? {
            Node::File(file) => Some(file),
            Node::Directory { .. } | Node::Link => None,
        }
    }

    /// Takes a file away; gives the directory and the name that it had. Its directory stays.
    pub(crate) fn remove_file(&mut self, ino: u64) -> Option<(u64, String)> {
        let (parent, name) =
            self.entries().find(|&(_, _, entry)| entry == ino).map(|(dir, name, _)| (dir, name.to_owned()))?;
        self.file_mut(ino)?;
        if let Some(Node::Directory { children, .. }) = self.nodes.get_mut(&parent) {
            children.remove(&name);
        }
        self.nodes.remove(&ino);
        Some((parent, name))
    }

    /// Every file with its inode number, parent and name.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, &File<P>)> {
        self.nodes.iter().filter_map(|(&ino, node)| match node {
            Node::File(file) => Some((ino, file)),
            Node::Directory { .. } | Node::Link => None,
        })
    }

    /// Every entry of every directory: parent, name, inode number.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, &str, u64)> {
        self.nodes.iter().flat_map(|(&parent, node)| {
            let children = match node {
                Node::Directory { children, .. } => Some(children),
                Node::File(_) | Node::Link => None,
            };
            children.into_iter().flatten().map(move |(name, &ino)| (parent, name.as_str(), ino))
        })
    }

    /// The entries of a directory as readdir(3) lists them, `.` and `..` first; the place in this list is the offset.
    pub(crate) fn list(&self, ino: u64) -> Option<Vec<(&str, u64)>> {
        let Node::Directory { parent, children } = self.nodes.get(&ino)? else { return None };
        let own = [(".", ino), ("..", *parent)];
        Some(own.into_iter().chain(children.iter().map(|(name, &ino)| (name.as_str(), ino))).collect())
    }

    /// Makes the new link beside the secrets; gives its inode number, or nothing when it is there already.
    pub(crate) fn make_link(&mut self) -> Option<u64> {
        let ino = self.next;
        match self.nodes.get_mut(&SECRETS)? {
            Node::Directory { children, .. } if !children.contains_key(DATA_LINK_NEW) => {
                children.insert(DATA_LINK_NEW.to_owned(), ino);
            }
            Node::Directory { .. } | Node::File(_) | Node::Link => return None,
        }
        self.nodes.insert(ino, Node::Link);
        self.next += 1;
        Some(ino)
    }

    /// Renames the new link over the old one; gives whether there was one to rename.
    pub(crate) fn rename_link(&mut self) -> bool {
        let Some(Node::Directory { children, .. }) = self.nodes.get_mut(&SECRETS) else { return false };
        let Some(new) = children.remove(DATA_LINK_NEW) else { return false };
        if let Some(old) = children.insert(DATA_LINK.to_owned(), new) {
            self.nodes.remove(&old);
        }
        true
    }

    /// Removes a new link that was never renamed; gives whether there was one.
    pub(crate) fn remove_new_link(&mut self) -> bool {
        let Some(Node::Directory { children, .. }) = self.nodes.get_mut(&SECRETS) else { return false };
        let Some(ino) = children.remove(DATA_LINK_NEW) else { return false };
        self.nodes.remove(&ino).is_some()
    }

    fn path(&self, path: &str) -> Option<u64> {
        path.split('/').try_fold(ROOT, |parent, name| self.lookup(parent, name))
    }

    fn insert(&mut self, file: File<P>, before: Option<&Self>) -> Result<(), TargetRefused> {
        let refused = || TargetRefused(file.target.path_in_container());
        if !is_normal(&file.target) || self.files().any(|(_, other)| same_place(&other.target, &file.target)) {
            return Err(refused());
        }
        let path = file.target.path_in_filesystem();
        let (directories, name) = path.rsplit_once('/').ok_or_else(refused)?;
        let mut parent = ROOT;
        let mut walked = String::new();
        for part in directories.split('/') {
            walked.push_str(part);
            parent = match self.lookup(parent, part) {
                Some(ino) => ino,
                None => {
                    let ino = self.number(&walked, before);
                    self.nodes.insert(ino, Node::Directory { parent, children: BTreeMap::new() });
                    self.link(parent, part, ino).ok_or_else(refused)?;
                    ino
                }
            };
            walked.push('/');
        }
        if self.lookup(parent, name).is_some() {
            return Err(refused());
        }
        let ino = self.number(&path, before);
        self.link(parent, name, ino).ok_or_else(refused)?;
        self.nodes.insert(ino, Node::File(file));
        Ok(())
    }

    fn number(&mut self, path: &str, before: Option<&Self>) -> u64 {
        before.and_then(|before| before.path(path)).filter(|ino| !self.nodes.contains_key(ino)).unwrap_or_else(|| {
            let ino = self.next;
            self.next += 1;
            ino
        })
    }

    fn link(&mut self, parent: u64, name: &str, ino: u64) -> Option<()> {
        match self.nodes.get_mut(&parent)? {
            Node::Directory { children, .. } => {
                children.insert(name.to_owned(), ino);
                Some(())
            }
            Node::File(_) | Node::Link => None,
        }
    }
}

/// Two targets that would be one file, in the container or in the task's filesystem.
fn same_place(one: &Target, other: &Target) -> bool {
    one.path_in_container() == other.path_in_container() || one.path_in_filesystem() == other.path_in_filesystem()
}

/// Whether the target is one that [`Target::parse`] makes: what comes over the socket was not parsed here.
fn is_normal(target: &Target) -> bool {
    match target {
        Target::Relative(path) => !path.starts_with('/') && Target::parse(path).is_ok_and(|parsed| parsed == *target),
        Target::Absolute(path) => path.starts_with('/') && Target::parse(path).is_ok_and(|parsed| parsed == *target),
    }
}

#[cfg(test)]
mod tests;
