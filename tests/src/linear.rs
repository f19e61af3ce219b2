//! Whether what clients saw of one secret could have happened: pure.
//!
//! Operations overlap. The history is linearizable if each of them can be given an instant between its call and its answer,
//! so that all answers are right when they happen one after another at these instants (Herlihy and Wing, 1990). The search
//! is Wing and Gong's, with Lowe's memory of what was tried. Names are independent, so each is looked at by itself.
//!
//! An operation without a known outcome may have taken effect at any instant after its call, or never.

use std::collections::HashSet;
use std::fmt;

/// What a name stands for: a secret (by a number that is drawn once) at a version, or nothing.
pub type State = Option<(u64, u64)>;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Make this secret, at version 1.
    Create(u64),
    /// Make this version of this secret from the one before it.
    Update(u64, u64),
    /// Remove this secret.
    Remove(u64),
    /// Remove whatever secret has the name.
    RemoveNamed,
    /// Tell what there is.
    Read,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// The name is taken.
    Taken,
    /// The secret is at another version.
    OutOfSequence,
    /// There is no such secret.
    NotFound,
    /// What was read.
    Saw(State),
    /// Nobody knows.
    Unknown,
}

/// One operation on one name.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Who called.
    pub client: usize,
    /// When it was called, on a clock that all clients share.
    pub start: u64,
    /// When it was answered; [`u64::MAX`] when it is not known what came of it.
    pub end: u64,
    /// What was asked for.
    pub call: Call,
    /// What came of it.
    pub answer: Answer,
}

impl Operation {
    /// The state after it, if it can be answered like this in `state`.
    fn apply(&self, state: State) -> Option<State> {
        match (self.call, self.answer) {
            (Call::Create(id), Answer::Done | Answer::Unknown) => state.is_none().then_some(Some((id, 1))),
            (Call::Create(_), Answer::Taken) => state.is_some().then_some(state),
            (Call::Update(id, version), Answer::Done | Answer::Unknown) => {
                (state == Some((id, version - 1))).then_some(Some((id, version)))
            }
            (Call::Update(id, version), Answer::OutOfSequence) => {
                state.is_some_and(|(is, at)| is == id && at != version - 1).then_some(state)
            }
            (Call::Remove(id), Answer::Done | Answer::Unknown) => state.is_some_and(|(is, _)| is == id).then_some(None),
            (Call::Update(id, _) | Call::Remove(id), Answer::NotFound) => {
                state.is_none_or(|(is, _)| is != id).then_some(state)
            }
            (Call::RemoveNamed, Answer::Done | Answer::Unknown) => state.is_some().then_some(None),
            (Call::RemoveNamed, Answer::NotFound) => state.is_none().then_some(state),
            (Call::Read, Answer::Saw(saw)) => (saw == state).then_some(state),
            _ => None, // no such call is answered like this
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, start, end, call, answer } = self;
        let end = if *end == u64::MAX { "..".to_owned() } else { end.to_string() };
        write!(f, "{start:>6} {end:>6} c{client:<2} ")?;
        match call {
            Call::Create(id) => write!(f, "create {id:x}")?,
            Call::Update(id, version) => write!(f, "update {id:x} to {version}")?,
            Call::Remove(id) => write!(f, "remove {id:x}")?,
            Call::RemoveNamed => write!(f, "remove")?,
            Call::Read => write!(f, "read")?,
        }
        match answer {
            Answer::Saw(Some((id, version))) => write!(f, ": {id:x} at {version}"),
            Answer::Saw(None) => write!(f, ": nothing"),
            Answer::Done | Answer::Taken | Answer::OutOfSequence | Answer::NotFound | Answer::Unknown => {
                write!(f, ": {answer:?}")
            }
        }
    }
}

/// Why a history is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLinearizable {
    /// It could not have happened.
    #[error("no order of these operations gives their answers (* can be put in order, - cannot):\n{0}")]
    Violation(String),
    /// It has too many ways to have happened.
    #[error("undecided after {0} steps")]
    Undecided(usize),
}

/// Steps after which the search is given up: such a history tests nothing, and must be made smaller.
const STEPS: usize = 3_000_000;

/// Looks for an order of `operations` on a name that stands for nothing at first.
///
/// # Errors
/// When there is none, or the search takes too long.
pub fn check(operations: &[Operation]) -> Result<(), NotLinearizable> {
    let mut sorted = operations.to_vec();
    sorted.sort_by_key(|operation| operation.start);
    let first = Done(vec![0; sorted.len().div_ceil(64)]);
    let mut furthest = first.clone();
    let mut tried: HashSet<(Done, State)> = HashSet::new();
    let mut open = vec![(first, None)];
    while let Some((mut done, state)) = open.pop() {
        let candidates = loop {
            let candidates = candidates(&sorted, &done);
            // What leaves everything as it is may as well happen now.
            let idle = |at: &&usize| sorted.get(**at).is_some_and(|one| one.apply(state) == Some(state));
            let Some(&at) = candidates.iter().find(idle) else { break candidates };
            done = done.with(at);
        };
        let rest = sorted.iter().enumerate().filter(|(at, _)| !done.has(*at));
        if rest.map(|(_, operation)| operation.end).all(|end| end == u64::MAX) {
            return Ok(()); // everything that was answered has its place
        }
        if done.count() > furthest.count() {
            furthest = done.clone();
        }
        // The last is looked at first: the one that was called first is put at the end.
        let after = |at: &usize| Some((done.with(*at), sorted.get(*at)?.apply(state)?));
        let next: Vec<(Done, State)> = candidates.iter().rev().filter_map(after).collect();
        open.extend(next.into_iter().filter(|place| tried.insert(place.clone())));
        if tried.len() > STEPS {
            return Err(NotLinearizable::Undecided(STEPS));
        }
    }
    Err(NotLinearizable::Violation(around(&sorted, &furthest)))
}

/// Those that may come next: what was answered before another was called comes before it.
fn candidates(sorted: &[Operation], done: &Done) -> Vec<usize> {
    let rest = || sorted.iter().enumerate().filter(|(at, _)| !done.has(*at));
    let limit = rest().map(|(_, operation)| operation.end).min().unwrap_or(u64::MAX);
    rest().take_while(|(_, operation)| operation.start < limit).map(|(at, _)| at).collect()
}

/// The operations where no order was found, and some before them.
fn around(sorted: &[Operation], furthest: &Done) -> String {
    let stuck = sorted.iter().enumerate().position(|(at, one)| !furthest.has(at) && one.end != u64::MAX).unwrap_or(0);
    let shown = sorted.iter().enumerate().skip(stuck.saturating_sub(16)).take(40);
    let lines: Vec<String> =
        shown.map(|(at, one)| format!("{} {one}", if furthest.has(at) { '*' } else { '-' })).collect();
    lines.join("\n")
}

/// Which operations have their place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn with(&self, at: usize) -> Self {
        let mut words = self.0.clone();
        if let Some(word) = words.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
        Self(words)
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(start: u64, end: u64, call: Call, answer: Answer) -> Operation {
        Operation { client: 0, start, end, call, answer }
    }

    fn create(start: u64, end: u64, id: u64) -> Operation {
        operation(start, end, Call::Create(id), Answer::Done)
    }

    fn saw(start: u64, end: u64, state: State) -> Operation {
        operation(start, end, Call::Read, Answer::Saw(state))
    }

    fn lost(start: u64, call: Call) -> Operation {
        operation(start, u64::MAX, call, Answer::Unknown)
    }

    #[test]
    fn operations_that_overlap_may_happen_in_either_order() {
        for first in [Some((7, 1)), None] {
            assert_eq!(check(&[create(0, 9, 7), saw(1, 2, first), saw(10, 11, Some((7, 1)))]), Ok(()), "{first:?}");
        }
        let update = operation(10, 19, Call::Update(7, 2), Answer::Done);
        assert_eq!(check(&[create(0, 9, 7), update, saw(11, 12, Some((7, 1))), saw(13, 14, Some((7, 2)))]), Ok(()));
    }

    #[test]
    fn read_of_what_was_replaced_before_it_began_is_found() {
        let update = operation(2, 3, Call::Update(7, 2), Answer::Done);
        let found = check(&[create(0, 1, 7), update, saw(4, 5, Some((7, 1)))]).unwrap_err();
        assert!(found.to_string().contains("-      4      5 c0  read: 7 at 1"), "{found}");
        assert!(found.to_string().contains("*      2      3 c0  update 7 to 2: Done"), "{found}");
    }

    #[test]
    fn acknowledged_write_that_is_lost_is_found() {
        assert!(check(&[create(0, 1, 7), saw(2, 3, None)]).is_err());
        assert!(check(&[create(0, 1, 7), create(2, 3, 8)]).is_err());
    }

    #[test]
    fn two_reads_may_not_see_a_write_come_and_go() {
        let overlapping = [create(0, 1, 7), operation(2, 9, Call::Update(7, 2), Answer::Done)];
        let reads = [saw(3, 4, Some((7, 2))), saw(5, 6, Some((7, 1)))];
        assert!(check(&[overlapping, reads].concat()).is_err());
    }

    #[test]
    fn what_is_not_known_may_have_happened_late_or_never() {
        let update = lost(2, Call::Update(7, 2));
        for last in [Some((7, 1)), Some((7, 2))] {
            assert_eq!(check(&[create(0, 1, 7), update, saw(3, 4, Some((7, 1))), saw(5, 6, last)]), Ok(()));
        }
        let both = [saw(3, 4, Some((7, 2))), saw(5, 6, Some((7, 1)))];
        assert!(check(&[&[create(0, 1, 7), update], both.as_slice()].concat()).is_err(), "it happened and did not");
        assert!(check(&[lost(4, Call::Create(7)), saw(2, 3, Some((7, 1)))]).is_err(), "before it was asked for");
    }

    #[test]
    fn one_of_two_that_update_the_same_version_wins() {
        let update = |start, end, answer| operation(start, end, Call::Update(7, 2), answer);
        let one = [create(0, 1, 7), update(2, 5, Answer::Done), update(3, 6, Answer::OutOfSequence)];
        assert_eq!(check(&one), Ok(()));
        let both = [create(0, 1, 7), update(2, 5, Answer::Done), update(3, 6, Answer::Done)];
        assert!(check(&both).is_err());
    }

    #[test]
    fn refusal_is_an_observation_too() {
        let remove = |start, end, call, answer| operation(start, end, call, answer);
        assert!(check(&[create(0, 1, 7), remove(2, 3, Call::RemoveNamed, Answer::NotFound)]).is_err());
        assert!(check(&[create(0, 1, 7), remove(2, 3, Call::Remove(7), Answer::NotFound)]).is_err());
        assert_eq!(check(&[create(0, 1, 7), remove(2, 3, Call::Remove(8), Answer::NotFound)]), Ok(()));
        assert!(check(&[remove(2, 3, Call::Create(8), Answer::Taken)]).is_err());
    }

    #[test]
    fn long_history_of_many_clients_is_decided() {
        let mut operations = vec![create(0, 1, 1)];
        for round in 1..120 {
            let at = 10 * round;
            operations.push(operation(at, at + 7, Call::Update(1, round + 1), Answer::Done));
            for reader in 1..5 {
                operations.push(saw(at + reader, at + 8, Some((1, round + u64::from(reader > 2)))));
            }
        }
        assert_eq!(check(&operations), Ok(()));
        operations.push(saw(2000, 2001, Some((1, 119))));
        assert!(matches!(check(&operations), Err(NotLinearizable::Violation(_))));
    }
}
