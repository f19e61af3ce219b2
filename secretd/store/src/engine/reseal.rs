//! Sealing records anew under the node's newest data key, some at a time: readers go on, and a commit waits for one step.

use std::ops::Bound;
use std::sync::Arc;

use super::{Engine, Key, Writes, failure};
use crate::failure::StorageFailure;

/// Bytes that are sealed anew in one commit.
const SEALED_AT_ONCE: usize = 1024 * 1024;
/// Bytes that are looked at in one step.
const READ_AT_ONCE: usize = 16 * 1024 * 1024;

/// What came of one step.
#[derive(Debug)]
struct Step {
    /// Records that are under an older key.
    writes: Writes,
    count: u64,
    /// The last that was looked at; `None` at the end.
    last: Option<Key>,
}

impl Engine {
    /// Seals every record anew that is under an older data key, and returns how many there were. What is written meanwhile
    /// is under the newest one already. Waits for the disk.
    pub(crate) fn reseal(&self) -> Result<u64, Arc<StorageFailure>> {
        let (mut total, mut after) = (0, None);
        loop {
            let mut commits = self.commits.lock(); // no record changes between its reading and its writing
            let step = self.next_step(after.as_ref())?;
            total += step.count;
            if !step.writes.is_empty() {
                self.commit_in(&mut commits, step.writes)?;
            }
            after = step.last;
            if after.is_none() {
                // The record of the count of commits has been sealed with each of them, but for a step without any.
                self.commit_in(&mut commits, Writes::default())?;
                let sequence = commits.sequence;
                let renewed = commits.acknowledged.renew(&self.sealer, sequence);
                return renewed.map(|()| total).map_err(|cause| self.fail_with(|| cause));
            }
        }
    }

    fn next_step(&self, after: Option<&Key>) -> Result<Step, StorageFailure> {
        const STEP: &str = "read records to seal them anew";
        let step = self.read(|table| {
            let first = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
            let mut step = Step { writes: Writes::default(), count: 0, last: None };
            let (mut read, mut to_write) = (0, 0);
            for item in table.range::<&[u8]>((first, Bound::Unbounded)).map_err(failure(STEP))? {
                let (key, sealed) = item.map_err(failure(STEP))?;
                let (key, sealed) = (Key::from_bytes(key.value()), sealed.value());
                read += sealed.len();
                if !self.sealer.is_newest(sealed) && key != Key::SEQUENCE {
                    to_write += sealed.len();
                    step.writes.put(key.clone(), std::mem::take(&mut *self.unseal(&key, sealed)?));
                    step.count += 1;
                }
                if read >= READ_AT_ONCE || to_write >= SEALED_AT_ONCE {
                    step.last = Some(key);
                    break;
                }
            }
            Ok(step)
        })?;
        Ok(step.unwrap_or(Step { writes: Writes::default(), count: 0, last: None }))
    }
}
