//! Space that is kept on the disk and given up when others have filled it: so that a full disk can be cleared with
//! `secret rm` and `service rm`, and what happens to tasks can still be written down.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;

use crate::engine::disk::Disk;

const FILE: &str = "ballast";
/// Enough for some hundred commits of operations that shrink the state.
pub(super) const BALLAST_BYTES: u64 = 4 * 1024 * 1024;
/// Less is taken where there is less.
const SIZES: [u64; 3] = [BALLAST_BYTES, BALLAST_BYTES / 2, BALLAST_BYTES / 4];

/// The file that holds the space.
#[derive(Debug)]
pub(super) struct Ballast {
    disk: Arc<dyn Disk>,
    path: Utf8PathBuf,
    is_there: Mutex<bool>,
}

impl Ballast {
    pub(super) fn new(disk: Arc<dyn Disk>, directory: &Utf8Path) -> Self {
        let path = directory.join(FILE);
        let is_there = disk.length(&path).is_ok_and(|length| SIZES.contains(&length));
        Self { disk, path, is_there: Mutex::new(is_there) }
    }

    /// Takes the space, unless it has some. A disk that gives none is one without ballast.
    pub(super) fn take(&self) {
        let mut is_there = self.is_there.lock();
        if *is_there {
            return;
        }
        *is_there = SIZES.iter().any(|size| self.disk.allocate(&self.path, *size).is_ok());
        if !*is_there {
            let _ = self.disk.remove(&self.path);
        }
    }

    /// Gives the space up. Answers whether there was any.
    pub(super) fn give_up(&self) -> bool {
        let mut is_there = self.is_there.lock();
        let given_up = *is_there && self.disk.remove(&self.path).is_ok();
        *is_there = *is_there && !given_up;
        given_up
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::engine::disk::Files;
    use crate::fixture::directory;

    #[test]
    fn space_is_really_taken_and_given_up_once() {
        let (_guard, path) = directory();
        std::fs::create_dir_all(&path).unwrap();
        let ballast = Ballast::new(Arc::new(Files), &path);
        assert!(!ballast.give_up());

        ballast.take();
        assert!(path.join(FILE).metadata().unwrap().blocks() * 512 >= BALLAST_BYTES);

        // The next secretd finds it again.
        let ballast = Ballast::new(Arc::new(Files), &path);
        assert!(ballast.give_up() && !ballast.give_up());
        assert!(!path.join(FILE).exists());
    }
}
