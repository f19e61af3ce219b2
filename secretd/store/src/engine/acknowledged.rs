//! How many commits were acknowledged, beside the store's file: so that a file which lost one of them is noticed.
//!
//! The engine falls back to the last commit that it can read, which is right after a crash in the middle of a commit and
//! wrong when a commit that was acknowledged is damaged. The count tells the two apart. It is written after each commit
//! but not synced (that would double the cost of a commit): it survives a killed process, and after a lost power supply
//! it may be behind, which refuses nothing.

use std::io;

use camino::Utf8Path;
use secretd_sealing::at_rest::Sealer;

use super::disk::{Disk, DiskFile};
use crate::failure::StorageFailure;

const FILE: &str = "acknowledged";
const STEP: &str = "write the count of commits";
const DOMAIN: &str = "acknowledged commits";
const SLOT: usize = 40; // count, and a tag that only this node's key makes

/// The count on disk: two slots in turn, so that a torn write leaves the other one.
#[derive(Debug)]
pub(super) struct Acknowledged(Box<dyn DiskFile>);

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// There was no such file.
    Absent,
    /// No slot is one that this node wrote.
    Damaged,
    /// So many.
    Commits(u64),
}

impl Acknowledged {
    /// Opens or creates the file, and reads what it says.
    pub(super) fn open(disk: &dyn Disk, directory: &Utf8Path, sealer: &Sealer) -> io::Result<(Self, Count)> {
        let file = disk.open(&directory.join(FILE))?;
        if file.length()? == 0 {
            return Ok((Self(file), Count::Absent));
        }
        let mut slots = [0; 2 * SLOT];
        let read = file.read_at(&mut slots, 0)?;
        let (slots, _) = slots.get(..read).unwrap_or_default().as_chunks::<SLOT>();
        let counts = slots.iter().filter_map(|slot| decode(sealer, slot));
        let count = counts.max().map_or(Count::Damaged, Count::Commits);
        Ok((Self(file), count))
    }

    /// Says that commit number `count` was acknowledged.
    pub(super) fn record(&self, sealer: &Sealer, count: u64) -> Result<(), StorageFailure> {
        let slot = if count.is_multiple_of(2) { 0 } else { SLOT as u64 };
        let written = self.0.write_at(&encode(sealer, count), slot);
        written.map_err(|source| StorageFailure::Io { step: STEP, source })
    }

    /// Says it again, under the newest key alone.
    pub(super) fn renew(&self, sealer: &Sealer, count: u64) -> Result<(), StorageFailure> {
        self.record(sealer, count.saturating_sub(1))?;
        self.record(sealer, count)?;
        self.sync()
    }

    /// Makes the count durable.
    pub(super) fn sync(&self) -> Result<(), StorageFailure> {
        self.0.sync().map_err(|source| StorageFailure::Io { step: STEP, source })
    }
}

fn encode(sealer: &Sealer, count: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let (number, tag) = slot.split_at_mut(8);
    number.copy_from_slice(&count.to_be_bytes());
    tag.copy_from_slice(&sealer.index(DOMAIN, &count.to_be_bytes()));
    slot
}

fn decode(sealer: &Sealer, slot: &[u8; SLOT]) -> Option<u64> {
    let (number, tag) = slot.split_first_chunk::<8>()?;
    sealer.is_index(DOMAIN, number, tag).then(|| u64::from_be_bytes(*number))
}
