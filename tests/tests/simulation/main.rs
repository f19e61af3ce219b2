//! Simulated clusters: the real store, on a network, clock and disk that a seed governs.
//!
//! It is a test of its own and not part of this crate's library: it needs the `testing` features of other crates, which
//! must not reach the binaries that are built beside it. docs/testing.md tells how it works.

// Nobody calls it but tests: what cannot be ends them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::type_complexity)]

mod client;
mod disk;
mod faults;
mod fixture;
mod history;
mod invariant;
mod mount;
mod net;
mod node;
mod operator;
mod part;
mod promise;
mod rng;
mod seeds;
mod settled;
mod trace;
mod wire;
mod world;

use world::World;

const CLUSTERS: &str = "clusters_keep_their_promises_under_faults";
const MANAGERS: &str = "managers_keep_their_promises_under_faults";

#[test]
fn managers_keep_their_promises_under_faults() {
    match seeds::seed() {
        Some(seed) => seeds::run_here(seed, World::of_stores),
        None => seeds::run_all(MANAGERS, seeds::count(150)),
    }
}

#[test]
fn clusters_keep_their_promises_under_faults() {
    match seeds::seed() {
        Some(seed) => seeds::run_here(seed, World::of_clusters),
        None => seeds::run_all(CLUSTERS, seeds::count(50)),
    }
}

#[test]
fn seed_gives_the_same_run_again() {
    if seeds::seed().is_some() {
        return; // it is another test that is replayed
    }
    for (test, seed) in [(MANAGERS, 1), (MANAGERS, 2), (MANAGERS, 3), (CLUSTERS, 1), (CLUSTERS, 2)] {
        let (one, two) = (seeds::trace(test, seed).unwrap(), seeds::trace(test, seed).unwrap());
        assert!(one.len() > 50, "seed {seed} has {} lines", one.len());
        let differs = one.iter().zip(&two).find(|(one, two)| one != two);
        assert_eq!((differs, one.len()), (None, two.len()), "seed {seed}");
    }
}
