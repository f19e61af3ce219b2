//! The files of the audit log: `reads.log`, which secret-fs writes, and older ones `reads.log.1` (the youngest) and on.
//!
//! secret-fs cannot open files: it is handed the descriptor, at its start and when the log is rotated. It has the next file
//! before the current one gets an older one's name, so a rotation that ends halfway loses no record and is made again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::fs::{PROTOCOL, Request, Response};
use secretd_sys::frame;

/// How long secret-fs may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the log is, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct AuditLog {
    /// `audit/` of the data directory.
    pub directory: Utf8PathBuf,
    /// Bytes after which the current file becomes an older one.
    pub max_size: u64,
    /// Files that are kept, the current one included; at least 1.
    pub max_files: usize,
}

/// The file that records go to from the next rotation on.
const NEXT: &str = "reads.log.next";

impl AuditLog {
    /// The current file, made where there is none.
    pub(super) fn open(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        open(&self.path(0))
    }

    /// Where the current file is full, records go to a new one; the oldest files are removed. Where somebody has removed
    /// it, records go to a new one too: those since are lost with the file.
    pub(super) fn rotate_when_full(&self, socket: &Utf8Path) -> io::Result<()> {
        match std::fs::metadata(self.path(0)) {
            Ok(metadata) if metadata.len() < self.max_size => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.hand_over(socket),
            Err(error) => return Err(error),
        }
        let next = self.directory.join(NEXT);
        hand_over(&open(&next)?, socket)?;
        self.shift()?;
        std::fs::rename(next, self.path(0))
    }

    /// Gives the current file to the secret-fs that listens on `socket`.
    pub(super) fn hand_over(&self, socket: &Utf8Path) -> io::Result<()> {
        hand_over(&self.open()?, socket)
    }

    /// Makes each file that is kept one older. The last is replaced, as the current one will be where it is kept alone, and
    /// what an earlier configuration kept beyond it goes.
    fn shift(&self) -> io::Result<()> {
        for entry in self.directory.read_dir_utf8()? {
            let entry = entry?;
            let number = entry.file_name().strip_prefix("reads.log.").and_then(|number| number.parse::<usize>().ok());
            if number.is_some_and(|number| number >= self.max_files) {
                std::fs::remove_file(entry.path())?;
            }
        }
        for number in (0..self.max_files.saturating_sub(1)).rev() {
            match std::fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The file that was current so many rotations ago.
    fn path(&self, number: usize) -> Utf8PathBuf {
        let name = if number == 0 { "reads.log".to_owned() } else { format!("reads.log.{number}") };
        self.directory.join(name)
    }
}

fn open(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn hand_over(file: &File, socket: &Utf8Path) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    ask(&stream, &Request::Hello { protocol: PROTOCOL }, &[])?;
    ask(&stream, &Request::AuditTo, &[file.as_fd()])
}

fn ask(stream: &UnixStream, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    frame::send(stream, request, descriptors).map_err(io::Error::other)?;
    match frame::receive(stream).map_err(io::Error::other)? {
        (Response::Refused(refusal), _) => Err(io::Error::other(refusal)),
        (Response::Hello { .. } | Response::Done | Response::Changed { .. } | Response::Status(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What a secret-fs would do: takes one file and writes `text` to it.
    fn take_one(listener: &UnixListener, text: &str) {
        let (stream, _) = listener.accept().unwrap();
        loop {
            let Ok((request, descriptors)) = frame::receive::<Request>(&stream) else { return };
            if let [file] = descriptors.as_slice() {
                assert!(matches!(request, Request::AuditTo));
                File::from(file.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
            }
            frame::send(&stream, &Response::Done, &[]).unwrap();
        }
    }

    /// The files after so many rotations, with what is in them.
    fn rotated(max_files: usize, texts: &[&str]) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap();
        let log = AuditLog { directory: path.join("audit"), max_size: 3, max_files };
        let socket = path.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        log.open().unwrap().write_all(b"000").unwrap();
        for text in texts {
            std::thread::scope(|scope| {
                scope.spawn(|| take_one(&listener, text));
                log.rotate_when_full(&socket).unwrap();
            });
        }
        let entries = log.directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name().to_owned(), std::fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn so_many_files_are_kept_and_the_oldest_goes() {
        let kept = [("reads.log", "d"), ("reads.log.1", "ccc"), ("reads.log.2", "bbb")];

        assert_eq!(
            rotated(3, &["aaa", "bbb", "ccc", "d"]),
            kept.map(|(name, text)| (name.to_owned(), text.to_owned()))
        );
        assert_eq!(rotated(1, &["aaa"]), [("reads.log".to_owned(), "aaa".to_owned())]);
    }

    #[test]
    fn file_that_was_removed_is_made_again_and_handed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap();
        let log = AuditLog { directory: path.join("audit"), max_size: 3, max_files: 2 };
        let socket = path.join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::create_dir(&log.directory).unwrap();

        std::thread::scope(|scope| {
            scope.spawn(|| take_one(&listener, "new"));
            log.rotate_when_full(&socket).unwrap();
        });

        assert_eq!(std::fs::read(log.path(0)).unwrap(), b"new");
    }

    #[test]
    fn files_beyond_what_is_kept_now_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().to_owned();
        let log = AuditLog { directory: path, max_size: 3, max_files: 2 };
        for number in 0..6 {
            std::fs::write(log.path(number), number.to_string()).unwrap();
        }

        log.shift().unwrap();

        assert_eq!(std::fs::read(log.path(1)).unwrap(), b"0");
        assert_eq!(log.directory.read_dir_utf8().unwrap().count(), 1);
    }

    #[test]
    fn file_that_nobody_takes_is_not_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().to_owned();
        let log = AuditLog { directory: path.clone(), max_size: 3, max_files: 2 };
        log.open().unwrap().write_all(b"000").unwrap();

        assert!(log.rotate_when_full(&path.join("nobody")).is_err());

        assert_eq!(std::fs::read(log.path(0)).unwrap(), b"000");
        assert!(!log.path(1).exists());
    }
}
