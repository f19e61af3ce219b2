//! The record of who opened what: one line of JSON for each open, written before the open is answered. What comes over
//! the control socket and gives bytes to somebody, or a way to them, is recorded too.
//!
//! Lines hold ids and numbers only: no name of a secret, and no text that a container chose. A line goes out in one
//! write(2) to a descriptor opened for appending, so lines of several threads never mix. When it cannot be written, the
//! open is refused.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use secretd_proto::id::{SecretId, TaskId};

/// What became of an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    /// A mount of the task is served from now on: its shim's, or that of somebody who passes for it.
    Attached,
    /// A file of a memory filesystem was filled.
    Filled,
    Refused(Reason),
}

/// Why an open or a read was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The kernel gives no thread id: the caller is outside the mounter's pid namespace.
    NoThread,
    /// /proc does not show the caller.
    NotShown,
    /// The caller is not in the task's control group.
    Cgroup,
    /// Opened for writing by somebody who is not the shim.
    Write,
    /// The task's secrets were retracted.
    Retracted,
    /// An open file is read by a thread outside the task's control group.
    PassedOn,
    /// A mount of the task while another one is served, by another process than that one's shim.
    SecondMount,
    /// Filling files, on a node that serves mounts.
    Fill,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) task: TaskId,
    /// Secret and version, where the file still holds one.
    pub(crate) secret: Option<(SecretId, u64)>,
    /// 0 where it is not known.
    pub(crate) process: u32,
    pub(crate) thread: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) outcome: Outcome,
}

/// Why a descriptor takes no records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditFileError {
    #[error("the audit descriptor does not work")]
    Descriptor(#[source] io::Error),
    #[error("the audit file is not opened for appending")]
    NotAppending,
}

/// Where the lines go, and how many there were.
#[derive(Debug)]
pub(crate) struct Audit {
    file: Mutex<Arc<OwnedFd>>,
    allowed: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    /// Whether the last line went out in part: the next begins a line of its own.
    is_cut: AtomicBool,
}

impl Audit {
    /// Records go to `file`.
    ///
    /// # Errors
    /// See [`AuditFileError`].
    pub(crate) fn new(file: OwnedFd) -> Result<Self, AuditFileError> {
        check(&file)?;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            file: Mutex::new(Arc::new(file)),
            allowed: zero(),
            refused: zero(),
            lost: zero(),
            is_cut: AtomicBool::new(false),
        })
    }

    /// Records go to `file` from now on.
    ///
    /// # Errors
    /// See [`AuditFileError`]; records go on where they went before.
    pub(crate) fn write_to(&self, file: OwnedFd) -> Result<(), AuditFileError> {
        check(&file)?;
        *self.file.lock() = Arc::new(file);
        Ok(())
    }

    /// Writes one record, and counts it.
    ///
    /// # Errors
    /// When the line could not be written whole: nothing may be allowed then.
    pub(crate) fn record(&self, record: &Record, at: i64) -> io::Result<()> {
        let mut line = line(record, at);
        if self.is_cut.swap(false, Ordering::Relaxed) {
            line.insert(0, '\n');
        }
        let file = Arc::clone(&self.file.lock());
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&*file, line.as_bytes()));
        if written != Ok(line.len()) {
            self.is_cut.fetch_or(matches!(written, Ok(1..)) || line.starts_with('\n'), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(written.err().map_or_else(|| io::ErrorKind::WriteZero.into(), io::Error::from));
        }
        match record.outcome {
            Outcome::Allowed => self.allowed.fetch_add(1, Ordering::Relaxed),
            Outcome::Refused(_) => self.refused.fetch_add(1, Ordering::Relaxed),
            Outcome::Attached | Outcome::Filled => 0, // no open
        };
        Ok(())
    }

    /// Opens since the start: allowed, refused.
    pub(crate) fn opens(&self) -> (u64, u64) {
        (self.allowed.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Records that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn check(file: &OwnedFd) -> Result<(), AuditFileError> {
    let flags = rustix::fs::fcntl_getfl(file).map_err(|error| AuditFileError::Descriptor(error.into()))?;
    if flags.contains(OFlags::APPEND) { Ok(()) } else { Err(AuditFileError::NotAppending) }
}

fn line(record: &Record, at: i64) -> String {
    let mut line = format!("{{\"at\":{at},\"task\":\"{}\"", record.task);
    // Writing to a String cannot fail.
    if let Some((secret, version)) = record.secret {
        let _ = write!(line, ",\"secret\":\"{secret}\",\"version\":{version}");
    }
    let Record { process, thread, uid, gid, .. } = record;
    let _ = write!(line, ",\"pid\":{process},\"tid\":{thread},\"uid\":{uid},\"gid\":{gid}");
    match record.outcome {
        Outcome::Allowed => line.push_str(",\"outcome\":\"allowed\"}\n"),
        Outcome::Attached => line.push_str(",\"outcome\":\"attached\"}\n"),
        Outcome::Filled => line.push_str(",\"outcome\":\"filled\"}\n"),
        Outcome::Refused(reason) => {
            let _ = writeln!(line, ",\"outcome\":\"refused\",\"reason\":\"{}\"}}", reason.as_str());
        }
    }
    line
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoThread => "no-thread",
            Self::NotShown => "not-shown",
            Self::Cgroup => "cgroup",
            Self::Write => "write",
            Self::Retracted => "retracted",
            Self::PassedOn => "passed-on",
            Self::SecondMount => "second-mount",
            Self::Fill => "fill",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{Read, Seek};

    use expect_test::expect;

    use super::*;

    fn record(outcome: Outcome) -> Record {
        Record {
            task: TaskId::from_random([1; 16]),
            secret: Some((SecretId::from_random([2; 16]), 3)),
            process: 10,
            thread: 11,
            uid: 999,
            gid: 998,
            outcome,
        }
    }

    #[test]
    fn line_has_ids_and_numbers_only() {
        expect![[r#"
            {"at":5,"task":"0250za67mbtgh1tvq6ktn8q2p","secret":"04a1ykcf8nmwy3nrgd5nahg5e","version":3,"pid":10,"tid":11,"uid":999,"gid":998,"outcome":"allowed"}
        "#]]
        .assert_eq(&line(&record(Outcome::Allowed), 5));
        let gone = Record { secret: None, ..record(Outcome::Refused(Reason::Retracted)) };
        expect![[r#"
            {"at":5,"task":"0250za67mbtgh1tvq6ktn8q2p","pid":10,"tid":11,"uid":999,"gid":998,"outcome":"refused","reason":"retracted"}
        "#]]
        .assert_eq(&line(&gone, 5));
    }

    #[test]
    fn records_are_appended_and_counted_and_a_loss_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("reads.log");
        let file = OpenOptions::new().append(true).read(true).create(true).open(&path).unwrap();
        let mut reader = file.try_clone().unwrap();
        let audit = Audit::new(file.into()).unwrap();

        audit.record(&record(Outcome::Allowed), 1).unwrap();
        audit.record(&record(Outcome::Refused(Reason::Cgroup)), 2).unwrap();
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        audit.write_to(full.into()).unwrap();
        assert!(audit.record(&record(Outcome::Allowed), 3).is_err());

        let mut text = String::new();
        reader.rewind().unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!((audit.opens(), audit.lost()), ((1, 2), 1));
    }

    #[test]
    fn descriptor_that_does_not_append_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Audit::new(file.into()), Err(AuditFileError::NotAppending)));
    }
}
