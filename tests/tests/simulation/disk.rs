//! A disk that keeps apart what was synced and what was only written.
//!
//! A killed process loses nothing of what it wrote: the kernel has it. A lost power supply loses what was not synced, each
//! sector of 512 bytes by itself, in any combination; a file whose directory was not synced may be gone altogether. After
//! a crash the dead process's handles write no more.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use secretd_store::simulation::{DiskFile, SimulatedDisk};

use crate::rng::Rng;

const SECTOR: usize = 512;
/// More than the store ever asks for before it counts the disk as full.
const FREE: u64 = 1 << 40;

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Its process is killed.
    Kill,
    /// Its power supply fails.
    Power,
}

/// The disk of one node. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<Utf8PathBuf, File>,
    /// Counts the crashes: handles of before are dead.
    life: u64,
    /// Syncs until one fails.
    fails_in: Option<u64>,
    /// Whether one has failed in this life.
    has_failed: bool,
}

#[derive(Debug, Default)]
struct File {
    durable: Vec<u8>,
    now: Vec<u8>,
    pending: Vec<Pending>,
    is_listed: bool,
}

#[derive(Debug)]
enum Pending {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// A file that one process has open.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    path: Utf8PathBuf,
    life: u64,
}

impl Disk {
    /// One of the next syncs fails.
    pub(crate) fn fail_sync(&self, after: u64) {
        self.0.lock().fails_in = Some(after);
    }

    /// Whether a sync has failed since the last crash.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.lock().has_failed
    }

    /// What the next process finds.
    pub(crate) fn crash(&self, how: Crash, rng: &mut Rng) {
        let mut contents = self.0.lock();
        contents.life += 1;
        (contents.fails_in, contents.has_failed) = (None, false);
        let survives = rng.pick(&[0, 500, 1000, 900]).unwrap_or_default();
        let mut lost = Vec::new();
        for (path, file) in &mut contents.files {
            match how {
                Crash::Kill => file.sync(),
                Crash::Power if !file.is_listed && rng.chance(500) => lost.push(path.clone()),
                Crash::Power => file.lose_power(survives, rng),
            }
        }
        for path in lost {
            contents.files.remove(&path);
        }
    }

    /// Another disk is put in its place.
    pub(crate) fn replace(&self) {
        let mut contents = self.0.lock();
        contents.life += 1;
        contents.files.clear();
        contents.fails_in = None;
    }

    fn of_life<T>(&self, life: u64, act: impl FnOnce(&mut Contents) -> io::Result<T>) -> io::Result<T> {
        let mut contents = self.0.lock();
        if contents.life == life { act(&mut contents) } else { Err(io::Error::other("the process is dead")) }
    }

    /// As the process that begins now has it.
    pub(crate) fn mounted(&self) -> Mounted {
        Mounted { disk: self.clone(), life: self.0.lock().life }
    }
}

impl File {
    fn sync(&mut self) {
        for pending in self.pending.drain(..) {
            apply(&mut self.durable, &pending);
        }
    }

    fn lose_power(&mut self, survives: u64, rng: &mut Rng) {
        for pending in self.pending.drain(..) {
            let Pending::Bytes { offset, bytes } = pending else {
                if rng.chance(survives) {
                    apply(&mut self.durable, &pending);
                }
                continue;
            };
            let mut from = 0;
            while from < bytes.len() {
                let to = (((offset + from) / SECTOR + 1) * SECTOR - offset).min(bytes.len());
                if rng.chance(survives) {
                    let sector = bytes.get(from..to).unwrap_or_default().to_vec();
                    apply(&mut self.durable, &Pending::Bytes { offset: offset + from, bytes: sector });
                }
                from = to;
            }
        }
        self.now = self.durable.clone();
        self.is_listed = true;
    }
}

fn apply(to: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Bytes { offset, bytes } => {
            let end = offset + bytes.len();
            if to.len() < end {
                lengthen(to, end);
            }
            to.get_mut(*offset..end).unwrap_or_default().copy_from_slice(bytes);
        }
        Pending::Length(length) if *length > to.len() => lengthen(to, *length),
        Pending::Length(length) => to.truncate(*length),
    }
}

/// With zeros, all at once: without optimization one after the other takes long.
fn lengthen(bytes: &mut Vec<u8>, length: usize) {
    let more = vec![0; length - bytes.len()];
    bytes.extend_from_slice(&more);
}

/// A disk, as one process has it.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    disk: Disk,
    life: u64,
}

impl SimulatedDisk for Mounted {
    fn create_directory(&self, _: &Utf8Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        self.disk.of_life(self.life, |contents| {
            contents.files.retain(|path, _| !path.starts_with(directory));
            Ok(())
        })
    }

    fn sync_directory(&self, directory: &Utf8Path) -> io::Result<()> {
        self.disk.of_life(self.life, |contents| {
            for (_, file) in contents.files.iter_mut().filter(|(path, _)| path.parent() == Some(directory)) {
                file.is_listed = true;
            }
            Ok(())
        })
    }

    fn open(&self, path: &Utf8Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.of_life(self.life, |contents| {
            contents.files.entry(path.to_owned()).or_default();
            Ok(())
        })?;
        Ok(Box::new(Handle { disk: self.disk.clone(), path: path.to_owned(), life: self.life }))
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        self.disk.of_life(self.life, |contents| {
            let removed = contents.files.remove(path);
            removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn free_bytes(&self) -> u64 {
        FREE
    }
}

impl Handle {
    fn on_file<T>(&self, act: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        self.disk.of_life(self.life, |contents| {
            let file = contents.files.get_mut(&self.path);
            act(file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?)
        })
    }
}

impl DiskFile for Handle {
    fn length(&self) -> io::Result<u64> {
        self.on_file(|file| Ok(file.now.len() as u64))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.on_file(|file| {
            apply(&mut file.now, &Pending::Length(length));
            file.pending.push(Pending::Length(length));
            Ok(())
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.on_file(|file| {
            let there = file.now.get(offset..).unwrap_or_default();
            let count = there.len().min(bytes.len());
            bytes[..count].copy_from_slice(&there[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.on_file(|file| {
            let pending = Pending::Bytes { offset, bytes: bytes.to_vec() };
            apply(&mut file.now, &pending);
            file.pending.push(pending);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.of_life(self.life, |contents| {
            if let Some(left) = contents.fails_in.as_mut() {
                if *left == 0 {
                    contents.fails_in = None;
                    contents.has_failed = true;
                    return Err(io::Error::other("the disk does not take it"));
                }
                *left -= 1;
            }
            let file = contents.files.get_mut(&self.path);
            file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.sync();
            Ok(())
        })
    }
}
