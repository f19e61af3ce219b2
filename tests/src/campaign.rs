//! What long-running tests have in common: how often they do what they do, and chance that can be had again.
//!
//! `make test` does each campaign in short. A variable of the environment (`CYCLES`, `HISTORIES`, `WHOLE`) asks for more of
//! it, and `SEED` for the choices of an earlier run: `docs/testing.md` has the commands.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Between two looks at what comes about by itself.
const LOOK: Duration = Duration::from_millis(25);

/// How often: what the variable `name` says, `short` where it is not set.
pub fn times(name: &str, short: usize) -> Result<usize> {
    let Some(asked) = variable(name)? else { return Ok(short) };
    let times = asked.parse().with_context(|| format!("{name}={asked} is no number"))?;
    ensure!(times > 0, "{name}=0 would test nothing");
    Ok(times)
}

/// Whether the variable `name` asks for all of it, instead of a sample.
pub fn whole(name: &str) -> Result<bool> {
    match variable(name)?.as_deref() {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => anyhow::bail!("{name}={other} is neither 0 nor 1"),
    }
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(name.to_owned()),
    }
}

/// A moment between two looks: it leaves the processor to those that are waited for.
pub fn pause() {
    go_by(LOOK);
}

fn go_by(time: Duration) {
    let (_nobody, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time); // nothing comes
}

/// Numbers that look random (xorshift64; Marsaglia, 2003).
#[derive(Debug, Clone)]
pub struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    /// What `SEED` says, or a new one.
    pub fn new() -> Result<Self> {
        let seed = match variable("SEED")? {
            Some(seed) => seed.parse().context("SEED is no number")?,
            None => {
                let mut seed = [0; 8];
                std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
                u64::from_le_bytes(seed)
            }
        };
        Ok(Self::of(seed))
    }

    /// The numbers that belong to `seed`.
    pub fn of(seed: u64) -> Self {
        // Neighbouring seeds give numbers that have nothing in common (splitmix64).
        let mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self { seed, state: (mixed ^ (mixed >> 31)) | 1 }
    }

    /// What gives the same numbers again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    /// The same, as an index.
    pub fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// Lets a part of `longest` go by: what is tested goes on meanwhile, and is met at any instant.
    pub fn wait(&mut self, longest: Duration) {
        let micros = self.below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX));
        go_by(Duration::from_micros(micros));
    }
}
