//! How far a store has come, and whether it has ever been somewhere: pure.
//!
//! A count of commits alone would not do: a store that went back counts on, and is soon past the place where it was seen.
//! So each start draws a number, and a place is a run and a count. A store that was put back to an earlier copy does not
//! know the runs after it, or has left the run of the copy before the place.

use secretd_proto::v1;

/// Starts that are remembered. Of a longer past the beginning is not known any more, and is taken on trust.
const RUNS: usize = 1000;

/// A place in the life of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) run: u64,
    pub(crate) commits: u64,
}

/// The runs of a store; each begins at its position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past {
    runs: Vec<Position>,
    shortened: bool,
}

impl Past {
    /// A new run begins.
    pub(crate) fn begin(&mut self, run: Position) {
        self.runs.push(run);
        if self.runs.len() > RUNS {
            self.runs.remove(0);
            self.shortened = true;
        }
    }

    /// Whether a store with this past, which has `now` commits, has been at `place`.
    pub(crate) fn has(&self, place: Position, now: u64) -> bool {
        let Some(at) = self.runs.iter().position(|run| run.run == place.run) else {
            let forgotten = self.runs.first().is_none_or(|first| place.commits < first.commits);
            return self.shortened && forgotten;
        };
        let end = self.runs.get(at + 1).map_or(now, |next| next.commits.saturating_sub(1));
        place.commits <= end
    }
}

impl From<Position> for v1::StorePosition {
    fn from(position: Position) -> Self {
        Self { run: position.run, commits: position.commits }
    }
}

impl From<v1::StorePosition> for Position {
    fn from(position: v1::StorePosition) -> Self {
        Self { run: position.run, commits: position.commits }
    }
}

impl From<&Past> for v1::StoredRuns {
    fn from(past: &Past) -> Self {
        Self { runs: past.runs.iter().copied().map(Into::into).collect(), shortened: past.shortened }
    }
}

impl From<v1::StoredRuns> for Past {
    fn from(stored: v1::StoredRuns) -> Self {
        Self { runs: stored.runs.into_iter().map(Into::into).collect(), shortened: stored.shortened }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(run: u64, commits: u64) -> Position {
        Position { run, commits }
    }

    #[test]
    fn store_knows_where_it_was_and_a_copy_does_not_know_what_came_after_it() {
        let mut past = Past::default();
        past.begin(at(1, 1));
        let copied = past.clone(); // at 60 commits
        past.begin(at(2, 101));
        let mut put_back = copied;
        put_back.begin(at(3, 61));

        for (place, has) in [(at(1, 1), true), (at(1, 100), true), (at(2, 150), true), (at(2, 151), false)] {
            assert_eq!(past.has(place, 150), has, "{place:?}");
        }
        for (place, has) in [(at(1, 60), true), (at(1, 61), false), (at(2, 101), false), (at(3, 70), true)] {
            assert_eq!(put_back.has(place, 5000), has, "{place:?} of the copy");
        }
    }

    proptest! {
        /// Whatever was seen before a store went back, it is found out, however many commits follow.
        #[test]
        fn store_that_went_back_is_found_out(
            lengths in prop::collection::vec(1_u64..50, 1..6),
            back in 0_usize..300,
            later in 0_u64..500,
        ) {
            let mut past = Past::default();
            let mut commits = 0;
            let mut copies = Vec::new();
            for (run, length) in (1..).zip(&lengths) {
                past.begin(at(run, commits + 1));
                for _ in 0..*length {
                    commits += 1;
                    copies.push((past.clone(), at(run, commits)));
                }
            }
            let (copy, place) = copies[back.min(copies.len() - 1)].clone();
            let last = copies.last().unwrap().1;
            let mut put_back = copy;
            put_back.begin(at(99, place.commits + 1));
            let now = place.commits + 1 + later;

            for (_, seen) in &copies {
                prop_assert!(past.has(*seen, commits));
                prop_assert_eq!(put_back.has(*seen, now), seen.commits <= place.commits, "{:?} {:?} {:?}", seen, place, last);
            }
        }
    }

    #[test]
    fn of_a_long_past_the_beginning_is_taken_on_trust() {
        let mut past = Past::default();
        for run in 1..=RUNS as u64 + 5 {
            past.begin(at(run, run * 10));
        }

        assert!(past.has(at(2, 25), 20_000) && past.has(at(500, 5003), 20_000));
        assert!(!past.has(at(77_777, 9000), 20_000), "it is not from before the first that is known");
    }
}
