//! The container's log: Docker's json-file format, rotated by size.
//!
//! A line of output is a line of the file: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`.
//! A line longer than 16 KiB is cut into several without a newline at their end, as in Docker. Bytes that are no UTF-8
//! are replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::shim_config::LogPlan;
use crate::timestamp;

/// The current file's name; older ones have `.1`, `.2` … behind it.
pub(crate) const FILE: &str = "log.json";

/// The longest piece of a line.
const MAX_PIECE: usize = 16 * 1024;

/// Where output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

#[derive(Serialize)]
struct Record<'a> {
    log: &'a str,
    stream: &'a str,
    time: &'a str,
}

/// Writes a container's output.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    path: Utf8PathBuf,
    size: u64,
    max_size: u64,
    max_files: u32,
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Opens or goes on with the log.
    pub(super) fn open(plan: &LogPlan) -> io::Result<Self> {
        let mut log = Self {
            file: None,
            path: plan.directory.as_ref().map(|directory| directory.join(FILE)).unwrap_or_default(),
            size: 0,
            max_size: plan.max_size,
            max_files: plan.max_files.max(1),
            pending: [Vec::new(), Vec::new()],
        };
        if let Some(directory) = &plan.directory {
            std::fs::create_dir_all(directory)?;
            log.reopen()?;
        }
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Takes output; whole lines are written at once. A full disk loses output, never the container.
    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8], now: i64) {
        if self.file.is_none() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_PIECE.saturating_sub(pending.len()).max(1);
            let window = rest.get(..room.min(rest.len())).unwrap_or(rest);
            let newline = window.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let (piece, after) = rest.split_at(newline.unwrap_or(window.len()));
            pending.extend_from_slice(piece);
            rest = after;
            if newline.is_some() || pending.len() >= MAX_PIECE {
                self.write(stream, &pending, now);
                pending.clear();
            }
        }
        pending.shrink_to(1024);
        self.pending[stream as usize] = pending;
    }

    /// Writes what came without a newline before the stream's end.
    pub(super) fn finish(&mut self, stream: Stream, now: i64) {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if !pending.is_empty() {
            self.write(stream, &pending, now);
        }
    }

    fn write(&mut self, stream: Stream, line: &[u8], now: i64) {
        let (text, time) = (String::from_utf8_lossy(line), timestamp::rfc3339(now));
        let Ok(mut record) = serde_json::to_vec(&Record { log: &text, stream: stream.name(), time: &time }) else {
            return;
        };
        record.push(b'\n');
        if self.max_size > 0
            && self.size > 0
            && self.size + record.len() as u64 > self.max_size
            && self.rotate().is_err()
        {
            return;
        }
        if let Some(file) = &mut self.file
            && file.write_all(&record).is_ok()
        {
            self.size += record.len() as u64;
        }
    }

    /// The current file becomes `.1`, that one `.2`, and what is too many is removed.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| Utf8PathBuf::from(format!("{}.{number}", self.path));
        if self.max_files == 1 {
            std::fs::remove_file(&self.path)?;
        } else {
            for number in (1..self.max_files - 1).rev() {
                match std::fs::rename(numbered(number), numbered(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            std::fs::rename(&self.path, numbered(1))?;
        }
        self.reopen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(max_size: u64, max_files: u32) -> (tempfile::TempDir, Log, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        let log = Log::open(&LogPlan { directory: Some(path.clone()), max_size, max_files }).unwrap();
        (directory, log, path)
    }

    fn texts(path: &camino::Utf8Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| record(line)["log"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_are_records_however_they_arrive() {
        let (_directory, mut log, path) = log(0, 1);

        log.take(Stream::Stdout, b"one\ntw", 0);
        log.take(Stream::Stderr, b"error \xff\n", 0);
        log.take(Stream::Stdout, b"o\nrest", 0);
        log.finish(Stream::Stdout, 0);

        assert_eq!(texts(&path.join(FILE)), ["one\n", "error \u{fffd}\n", "two\n", "rest"]);
    }

    #[test]
    fn long_line_is_cut_into_pieces() {
        let (_directory, mut log, path) = log(0, 1);

        log.take(Stream::Stdout, &[b'x'; MAX_PIECE + 10], 0);
        log.finish(Stream::Stdout, 0);

        let lengths: Vec<usize> = texts(&path.join(FILE)).iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_PIECE, 10]);
    }

    #[test]
    fn files_rotate_and_the_oldest_go() {
        let (_directory, mut log, path) = log(200, 3);

        for number in 0..20 {
            log.take(Stream::Stdout, format!("line {number}\n").as_bytes(), 0);
        }

        let mut names: Vec<String> =
            path.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["log.json", "log.json.1", "log.json.2"]);
        assert_eq!(texts(&path.join(FILE)).last().unwrap(), "line 19\n");
        assert!(std::fs::metadata(path.join(FILE)).unwrap().len() <= 200);
    }
}
