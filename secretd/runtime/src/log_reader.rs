//! Reads containers' logs: across rotations, the last lines, from a time on, and on as they grow.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use secretd_core::seam::runtime::{LogLine, LogOptions, LogStream};
use secretd_core::time::Timestamp;
use serde::Deserialize;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use crate::shim::log::FILE;
use crate::timestamp;

#[derive(Deserialize)]
struct Record {
    log: String,
    stream: String,
    time: String,
}

/// The lines of the log in `directory`.
///
/// # Errors
/// When there is no such log.
pub(crate) fn read(directory: Utf8PathBuf, options: LogOptions) -> io::Result<LogStream> {
    // The watch comes before the reading: what is written in between is told.
    let watch = options.follow.then(|| watch(&directory)).transpose()?;
    let mut reader = Reader::open(directory)?;
    let mut lines = VecDeque::new();
    while let Some(line) = reader.next()? {
        if options.since.is_none_or(|since| line.at >= since) {
            lines.push_back(line);
        }
        if options.tail.is_some_and(|tail| lines.len() as u64 > tail) {
            lines.pop_front();
        }
    }
    let (sender, receiver) = mpsc::channel(64);
    // Ends when the reader of the stream does, or the log is removed.
    tokio::spawn(async move {
        for line in lines {
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
        if let Some(watch) = watch {
            follow(&mut reader, &watch, &sender).await;
        }
    });
    Ok(Box::pin(futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|line| (line, receiver))
    })))
}

type Sender = mpsc::Sender<Result<LogLine, secretd_core::seam::runtime::ContainerError>>;

async fn follow(reader: &mut Reader, watch: &Receiver, sender: &Sender) {
    loop {
        while let Ok(Some(line)) = reader.next() {
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
        let goes_on = tokio::select! {
            goes_on = changed(watch) => goes_on,
            () = sender.closed() => return,
        };
        if !matches!(goes_on, Ok(true)) {
            return;
        }
    }
}

/// Waits until something happens in the directory; whether it is still there.
async fn changed(watch: &Receiver) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        watch.readable().await?;
        match watch.try_read(&mut buffer) {
            Ok(length) => return Ok(!gone(buffer.get(..length).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether one of the events (`struct inotify_event`, inotify(7)) tells the end of the directory.
fn gone(mut events: &[u8]) -> bool {
    const HEADER: usize = 16; // wd, mask, cookie, len: 32 bits each
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    while let (Some(mask), Some(length)) = (word(events, 4), word(events, 12)) {
        if ReadFlags::from_bits_retain(mask).intersects(ReadFlags::DELETE_SELF | ReadFlags::IGNORED) {
            return true;
        }
        let next = HEADER + usize::try_from(length).unwrap_or(usize::MAX - HEADER);
        events = events.get(next..).unwrap_or_default();
    }
    false
}

fn watch(directory: &Utf8Path) -> io::Result<Receiver> {
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let files = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
    let flags = files | WatchFlags::DELETE_SELF;
    inotify::add_watch(&inotify, directory.as_std_path(), flags)?;
    Receiver::from_owned_fd_unchecked(inotify) // it is read like a pipe
}

/// Reads one file after another, oldest first, and goes over to a new one when the current one has been rotated.
struct Reader {
    directory: Utf8PathBuf,
    older: VecDeque<File>,
    current: Option<BufReader<File>>,
    /// The current file's inode: another one has its name after a rotation.
    inode: u64,
}

impl Reader {
    fn open(directory: Utf8PathBuf) -> io::Result<Self> {
        let mut rotated: Vec<(u32, Utf8PathBuf)> = Vec::new();
        for entry in directory.read_dir_utf8()? {
            let entry = entry?;
            let number = entry
                .file_name()
                .strip_prefix(FILE)
                .and_then(|rest| rest.strip_prefix('.'))
                .and_then(|text| text.parse().ok());
            rotated.extend(number.map(|number| (number, entry.path().to_owned())));
        }
        rotated.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        let older = rotated.iter().filter_map(|(_, path)| File::open(path).ok()).collect();
        let mut reader = Self { directory, older, current: None, inode: 0 };
        reader.advance()?;
        Ok(reader)
    }

    /// Opens the file that has the log's name, if it is another one than the current.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some(file) = self.older.pop_front() {
            self.inode = file.metadata()?.ino();
            self.current = Some(BufReader::new(file));
            return Ok(true);
        }
        match File::open(self.directory.join(FILE)) {
            Ok(file) if file.metadata()?.ino() != self.inode || self.current.is_none() => {
                self.inode = file.metadata()?.ino();
                self.current = Some(BufReader::new(file));
                Ok(true)
            }
            Ok(_) => Ok(false),
            // Rotated just now, or removed: the kernel tells the directory's end only when no file of it is open.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.current = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The next whole line; nothing where there is none yet.
    fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(current) = &mut self.current {
                let mut text = Vec::new();
                let length = current.read_until(b'\n', &mut text)?;
                if text.ends_with(b"\n") {
                    match parse(&text) {
                        Some(line) => return Ok(Some(line)),
                        None => continue, // a line that a crash has cut
                    }
                }
                // Half a line is being written: it is read again, whole.
                current.seek_relative(-i64::try_from(length).unwrap_or_default())?;
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.directory)
    }
}

fn parse(text: &[u8]) -> Option<LogLine> {
    let record: Record = serde_json::from_slice(text).ok()?;
    let at = Timestamp(timestamp::parse(&record.time)?);
    Some(LogLine { stderr: record.stream == "stderr", at, line: record.log.into_bytes() })
}
