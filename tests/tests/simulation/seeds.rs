//! Runs a simulation for many seeds, each in a process of its own: only there is everything that is random new.

use std::fmt::Write as _;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::world::{Violation, World};

/// Before each line of a trace.
const MARK: &str = "| ";
/// Lines of the trace that a failure shows.
const SHOWN: usize = 60;

/// The seed that is to be run here and now.
pub(crate) fn seed() -> Option<u64> {
    std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"))
}

/// How many seeds there are to be: `SEEDS`, or `usual`.
pub(crate) fn count(usual: u64) -> u64 {
    std::env::var("SEEDS").map_or(usual, |count| count.parse().expect("SEEDS is a number"))
}

/// Runs one seed in a thread that has no randomness but the seed's, and shows what happened.
pub(crate) fn run_here(seed: u64, world: fn(u64) -> World) {
    let run = move || {
        secretd_sys::seeded_random::seed_this_thread(seed).unwrap();
        let mut world = world(seed);
        let ran = world.run();
        (ran, world.trace.lines())
    };
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(16 << 20).spawn(run).unwrap();
    let (ran, lines): (Result<(), Violation>, Vec<String>) = thread.join().expect("the simulation panicked");
    let shown = if std::env::var_os("TRACE").is_some() { lines.len() } else { SHOWN };
    if ran.is_err() || shown == lines.len() {
        for line in &lines[lines.len().saturating_sub(shown)..] {
            println!("{MARK}{line}");
        }
    }
    if let Err(violation) = ran {
        panic!("seed {seed}: {violation}");
    }
}

/// Runs the seeds from 1 on, as many at a time as there are processors. Panics with the violations and the commands that
/// replay them.
pub(crate) fn run_all(test: &str, count: u64) {
    let next = AtomicU64::new(1);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > count || !failures.lock().is_empty() {
                return;
            }
            let output = run_apart(test, seed, false);
            if !output.status.success() {
                failures.lock().push((seed, output));
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner();
    let mut report = String::new();
    for (seed, output) in &failures {
        let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let _ = write!(
            report,
            "{told}\n{failed}\nreplay: SEED={seed} TRACE=1 cargo test -p secretd-tests --test simulation -- --exact {test} --nocapture\n"
        );
    }
    assert!(failures.is_empty(), "{report}");
}

/// The trace of a seed.
pub(crate) fn trace(test: &str, seed: u64) -> Result<Vec<String>, String> {
    let output = run_apart(test, seed, true);
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("seed {seed}: {told}{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(told.lines().filter(|line| line.starts_with(MARK)).map(str::to_owned).collect())
}

fn run_apart(test: &str, seed: u64, traces: bool) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("SEED", seed.to_string()).env_remove("TRACE");
    if traces {
        command.env("TRACE", "1");
    }
    command.output().unwrap()
}
