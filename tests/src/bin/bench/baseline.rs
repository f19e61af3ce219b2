//! What the machine itself does: the disk.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Appends `length` bytes and makes them durable, `count` times.
pub(crate) fn durable_appends(directory: &Path, length: usize, count: usize) -> Result<Vec<Duration>> {
    let path = directory.join("baseline");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let bytes = vec![7; length];
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        samples.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(samples)
}
