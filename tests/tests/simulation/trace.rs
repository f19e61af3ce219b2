//! What happened, line by line. The same seed gives the same lines, byte for byte.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

/// The lines of a run. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    now: u64,
    lines: Vec<String>,
    /// Of what is too frequent for a line.
    hasher: DefaultHasher,
    counted: u64,
}

impl Trace {
    /// It is now so many milliseconds after the start.
    pub(crate) fn set_now(&self, now: u64) {
        self.0.lock().now = now;
    }

    pub(crate) fn say(&self, what: impl Display) {
        let mut lines = self.0.lock();
        let line = format!("{:>6} {what}", lines.now);
        lines.lines.push(line);
    }

    /// What is too frequent for a line, and must be the same again all the same.
    pub(crate) fn count(&self, what: impl Hash) {
        let mut lines = self.0.lock();
        lines.counted += 1;
        what.hash(&mut lines.hasher);
    }

    /// Says what was counted until now.
    pub(crate) fn say_counted(&self) {
        let (counted, hash) = {
            let lines = self.0.lock();
            (lines.counted, lines.hasher.finish())
        };
        self.say(format_args!("{counted} messages, {hash:016x}"));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().lines.clone()
    }
}
