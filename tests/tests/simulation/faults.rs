//! What goes wrong: drawn from the seed, one thing after another, several at the same time.

use std::collections::BTreeSet;

use crate::disk::Crash;
use crate::net::Weather;
use crate::rng::Rng;

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A node ends, and begins again after so many milliseconds.
    Crash {
        node: usize,
        how: Crash,
        down: u64,
    },
    /// All nodes end at once.
    Blackout {
        down: u64,
    },
    /// Nodes on one side do not reach those on the other; one way, or both.
    Partition {
        side: BTreeSet<usize>,
        hears: bool,
        says: bool,
    },
    Heal,
    Weather(Weather),
    /// A node, or its disk, does nothing for so many steps.
    Stall {
        node: usize,
        steps: u64,
    },
    /// A node's wall clock jumps, by milliseconds.
    Jump {
        node: usize,
        by: i64,
    },
    /// A sync of its disk fails.
    BadDisk {
        node: usize,
        after: u64,
    },
    /// A node stands for election, whoever leads.
    Elect {
        node: usize,
    },
    /// A node is taken out, gets a new disk, and is a member again.
    Replace {
        node: usize,
    },
    /// A node is taken out; it may come back later.
    Demote {
        node: usize,
    },
    /// A node that is no member becomes one.
    Promote,
    /// A container ends by itself.
    Exit {
        node: usize,
    },
}

/// Draws the next fault for a cluster of `nodes`.
pub(crate) fn draw(rng: &mut Rng, nodes: usize) -> Fault {
    let node = 1 + rng.below(nodes);
    match rng.below(100) {
        0..18 => {
            let how = if rng.chance(500) { Crash::Kill } else { Crash::Power };
            Fault::Crash { node, how, down: rng.between(20, 1500) }
        }
        18..21 => Fault::Blackout { down: rng.between(50, 500) },
        21..41 => {
            let mut side = BTreeSet::from([node]);
            while rng.chance(400) {
                side.insert(1 + rng.below(nodes));
            }
            let (hears, says) = rng.pick(&[(false, false), (false, false), (true, false), (false, true)]).unwrap();
            Fault::Partition { side, hears, says }
        }
        41..56 => Fault::Heal,
        56..70 => Fault::Weather(weather(rng)),
        70..77 => Fault::Stall { node, steps: rng.between(10, 500) },
        77..78 => Fault::Exit { node },
        78..80 => Fault::Jump { node, by: i64::try_from(rng.between(0, 20_000_000)).unwrap() - 10_000_000 },
        80..84 => Fault::BadDisk { node, after: rng.between(0, 10) },
        84..91 => Fault::Elect { node },
        91..94 => Fault::Replace { node },
        94..97 => Fault::Demote { node },
        _ => Fault::Promote,
    }
}

/// Draws a fault after which some of the first `nodes` are behind others, and all go on.
pub(crate) fn draw_lag(rng: &mut Rng, nodes: usize) -> Fault {
    let node = 1 + rng.below(nodes);
    match rng.below(100) {
        0..45 => Fault::Elect { node },
        45..75 => Fault::Stall { node, steps: rng.between(5, 60) },
        75..90 => Fault::Weather(Weather { delay: (0, 60), loss: 0, twice: 50, slow: 50 }),
        _ => Fault::Weather(Weather { delay: (1, 15), loss: 20, twice: 50, slow: 20 }),
    }
}

fn weather(rng: &mut Rng) -> Weather {
    match rng.below(4) {
        0 => Weather::FINE,
        1 => Weather { delay: (1, 15), loss: 20, twice: 50, slow: 20 },
        2 => Weather { delay: (0, 40), loss: 5, twice: 100, slow: 50 },
        _ => Weather { delay: (5, 25), loss: 120, twice: 0, slow: 10 },
    }
}
