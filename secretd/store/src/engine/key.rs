//! Where records are: kind, then ids or indexes in order. A key is in clear on the disk, so it never holds a name.

use std::borrow::Cow;
use std::fmt;

use crate::op::PayloadRef;
use crate::state::RecordKey;

const LOG: u8 = b'l';
const PAYLOAD: u8 = b'p';
const GARBAGE: u8 = b'g';
const STATE: u8 = b's';
const META: u8 = b'm';

/// The place of one record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Cow<'static, [u8]>);

impl Key {
    /// How records are written; see [`Format`](super::open).
    pub(crate) const FORMAT: Self = Self(Cow::Borrowed(b"m.format"));
    /// How many commits there have been.
    pub(crate) const SEQUENCE: Self = Self(Cow::Borrowed(b"m.sequence"));
    /// This member's raft id.
    pub(crate) const MEMBER: Self = Self(Cow::Borrowed(b"m.member"));
    /// Raft's vote.
    pub(crate) const VOTE: Self = Self(Cow::Borrowed(b"m.vote"));
    /// Raft's last known committed log id.
    pub(crate) const COMMITTED: Self = Self(Cow::Borrowed(b"m.committed"));
    /// The log id up to which the log is purged.
    pub(crate) const PURGED: Self = Self(Cow::Borrowed(b"m.purged"));
    /// The runs that this store has had.
    pub(crate) const RUNS: Self = Self(Cow::Borrowed(b"m.runs"));
    /// How far the stores of other members had come.
    pub(crate) const WITNESS: Self = Self(Cow::Borrowed(b"m.witness"));
    /// Says that the store was found to be older than it was.
    pub(crate) const ROLLED_BACK: Self = Self(Cow::Borrowed(b"m.rolled-back"));
    /// Up to where the state is.
    pub(crate) const APPLIED: Self = Self(Cow::Borrowed(b"m.applied"));

    /// The log entry at `index`.
    pub(crate) fn log(index: u64) -> Self {
        Self::made(&[&[LOG], &index.to_be_bytes()])
    }

    /// One payload of the log entry at `at.index`.
    pub(crate) fn payload(at: PayloadRef) -> Self {
        Self::made(&[&[PAYLOAD], &at.index.to_be_bytes(), &at.slot.to_be_bytes()])
    }

    /// Says that nothing refers to a payload any more.
    pub(crate) fn garbage(at: PayloadRef) -> Self {
        Self::made(&[&[GARBAGE], &at.index.to_be_bytes(), &at.slot.to_be_bytes()])
    }

    /// One record of the state.
    pub(crate) fn state(key: RecordKey) -> Self {
        let (kind, id): (u8, &[u8]) = match &key {
            RecordKey::Cluster => (b'c', &[]),
            RecordKey::Secret(id) => (b's', id.as_bytes()),
            RecordKey::Service(id) => (b'v', id.as_bytes()),
            RecordKey::Task(id) => (b't', id.as_bytes()),
            RecordKey::Node(id) => (b'n', id.as_bytes()),
        };
        Self::made(&[&[STATE, kind], id])
    }

    /// Before every record of the state.
    pub(crate) fn state_first() -> Self {
        Self(Cow::Borrowed(&[STATE]))
    }

    /// After every record of the state.
    pub(crate) fn state_last() -> Self {
        Self(Cow::Borrowed(&[STATE, u8::MAX]))
    }

    /// The payload that a garbage record names.
    pub(crate) fn garbage_ref(&self) -> Option<PayloadRef> {
        let (index, slot) = self.as_bytes().strip_prefix(&[GARBAGE])?.split_first_chunk::<8>()?;
        Some(PayloadRef { index: u64::from_be_bytes(*index), slot: u32::from_be_bytes(slot.try_into().ok()?) })
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(Cow::Owned(bytes.to_vec()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn made(parts: &[&[u8]]) -> Self {
        Self(Cow::Owned(parts.concat()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (&kind, rest) = self.as_bytes().split_first().unwrap_or((&META, &[]));
        let kind = match kind {
            LOG => "log",
            PAYLOAD => "payload",
            GARBAGE => "garbage",
            STATE => "state",
            _ => return write!(f, "meta/{}", String::from_utf8_lossy(rest)),
        };
        write!(f, "{kind}/")?;
        rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
