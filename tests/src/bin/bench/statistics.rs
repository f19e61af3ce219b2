//! Percentiles, and a line of the table.

use std::time::Duration;

/// A line of the table.
#[derive(Debug)]
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

/// A duration that must not be longer than `limit`.
pub(crate) fn at_most(what: &str, samples: &[Duration], limit: Duration, beside: &str) -> Row {
    let median = percentile(samples, 0.5);
    Row {
        what: format!("{what}, p50"),
        measured: show(median),
        target: format!("<= {}", show(limit)),
        beside: format!(
            "p99 {}, n={}{}{beside}",
            show(percentile(samples, 0.99)),
            samples.len(),
            if beside.is_empty() { "" } else { "; " }
        ),
        reached: median <= limit,
    }
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

/// Memory in megabytes.
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub(crate) fn size(kilobytes: u64) -> String {
    format!("{:.1} MB", kilobytes as f64 / 1024.0)
}

/// A duration in its natural unit.
pub(crate) fn show(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.1} us") } else { format!("{:.2} ms", micros / 1000.0) }
}
