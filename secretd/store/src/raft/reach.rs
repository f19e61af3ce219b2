//! Which other managers answer.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A manager that has not answered for so long does not answer: twenty heartbeats.
const SILENCE: Duration = Duration::from_secs(1);

/// When each member answered last. Known to a leader, and to who stands for election: nobody else asks them anything.
#[derive(Debug, Default)]
pub(crate) struct Reach(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    last: HashMap<u64, Instant>,
    /// Those that take part no more.
    refused: HashSet<u64>,
}

impl Reach {
    pub(crate) fn answered(&self, member: u64) {
        self.0.lock().last.insert(member, Instant::now());
    }

    pub(crate) fn is_reachable(&self, member: u64) -> bool {
        self.0.lock().last.get(&member).is_some_and(|last| last.elapsed() < SILENCE)
    }

    /// Whether it is told for the first time that a member takes part no more.
    pub(crate) fn is_first_refusal(&self, member: u64) -> bool {
        self.0.lock().refused.insert(member)
    }
}
