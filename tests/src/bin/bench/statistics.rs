//! Percentiles, and a line of the table.

use std::time::Duration;

use anyhow::{Context, Result};

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) measured: String,
    pub(crate) target: String,
    pub(crate) beside: String,
    pub(crate) reached: bool,
}

/// The value below which `share` (0 to 1) of the samples lie.
pub(crate) fn percentile(samples: &[Duration], share: f64) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    // an index within the samples
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// A duration whose median must not be longer than `limit`.
pub(crate) fn at_most(what: &str, samples: &[Duration], limit: Duration, beside: &str) -> Row {
    let p99 = format!("p99 {}", show(percentile(samples, 0.99)));
    share_at_most(&format!("{what}, p50"), samples, (0.5, limit), &join(&p99, beside))
}

/// A duration whose 99th percentile must not be longer than `limit`.
pub(crate) fn tail_at_most(what: &str, samples: &[Duration], limit: Duration, beside: &str) -> Row {
    let p50 = format!("p50 {}", show(percentile(samples, 0.5)));
    share_at_most(&format!("{what}, p99"), samples, (0.99, limit), &join(&p50, beside))
}

fn share_at_most(what: &str, samples: &[Duration], (share, limit): (f64, Duration), beside: &str) -> Row {
    let value = percentile(samples, share);
    Row {
        what: what.to_owned(),
        measured: show(value),
        target: format!("<= {}", show(limit)),
        beside: join(&format!("n={}", samples.len()), beside),
        reached: value <= limit && !samples.is_empty(),
    }
}

fn join(first: &str, second: &str) -> String {
    format!("{first}{}{second}", if second.is_empty() { "" } else { "; " })
}

/// A rate that must not be lower than `limit`.
pub(crate) fn at_least(what: &str, rate: f64, limit: f64, beside: &str) -> Row {
    Row {
        what: what.to_owned(),
        measured: format!("{rate:.1}/s"),
        target: format!(">= {limit:.0}/s"),
        beside: beside.to_owned(),
        reached: rate >= limit,
    }
}

/// Memory that must not be more than `limit` kilobytes.
pub(crate) fn memory(what: &str, kilobytes: u64, limit: u64, beside: &str) -> Row {
    Row {
        what: what.to_owned(),
        measured: size(kilobytes),
        target: format!("<= {}", size(limit)),
        beside: beside.to_owned(),
        reached: kilobytes <= limit,
    }
}

/// How many times the one is the other: what a peer takes, and what we take.
pub(crate) fn ratio(peer: Duration, ours: Duration) -> String {
    format!("{:.1} times as long", peer.as_secs_f64() / ours.as_secs_f64().max(1e-9))
}

/// Memory in megabytes.
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub(crate) fn size(kilobytes: u64) -> String {
    format!("{:.1} MB", kilobytes as f64 / 1024.0)
}

/// A duration in its natural unit.
pub(crate) fn show(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        0.0..1e3 => format!("{micros:.1} us"),
        1e3..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Kilobytes: a process's own pages and its share of those that it shares (proc(5), smaps_rollup).
pub(crate) fn proportional_set_size(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("Pss")?;
    Ok(line.split_whitespace().nth(1).context("Pss")?.parse()?)
}

/// Processor time that a process has used (proc(5), stat), its threads' together.
pub(crate) fn processor_time(pid: i32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = text.rsplit_once(')').context("stat")?.1;
    let ticks =
        |field: usize| -> Result<u64> { Ok(after_name.split_whitespace().nth(field).context("stat")?.parse()?) };
    let hundredths = ticks(11)? + ticks(12)?; // utime and stime, in hundredths of a second on every Linux
    Ok(Duration::from_millis(hundredths * 10))
}
