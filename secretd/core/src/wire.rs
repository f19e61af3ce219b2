//! Domain types to and from the wire's messages.
//!
//! To the wire is `From` and cannot fail. From the wire is `TryFrom` with a [`WireError`] that names the field: an id
//! that is none, an enum value that this release does not know, a negative duration. An absent optional message gets
//! Docker's default.

mod node;
mod secret;
mod service;
mod task;

use std::time::Duration;

use secretd_proto::v1;

use crate::time::{Meta, Timestamp, Version};

/// A field of a message does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {reason}")]
pub struct WireError {
    /// Its name in the .proto file.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl WireError {
    /// A fault of `field`.
    pub fn new(field: &'static str, reason: impl std::fmt::Display) -> Self {
        Self { field, reason: reason.to_string() }
    }
}

/// A value of a text that must parse.
fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(field: &'static str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|error| WireError::new(field, error))
}

/// A message that must be there.
fn required<T>(field: &'static str, message: Option<T>) -> Result<T, WireError> {
    message.ok_or_else(|| WireError::new(field, "is missing"))
}

/// A known value of an enum.
fn known<T: TryFrom<i32>>(field: &'static str, value: i32) -> Result<T, WireError> {
    T::try_from(value).map_err(|_| WireError::new(field, format!("{value} is not known to this release")))
}

/// A time on the wire.
pub fn time_to_wire(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.0.rem_euclid(1_000_000_000)).unwrap_or_default();
    prost_types::Timestamp { seconds: time.0.div_euclid(1_000_000_000), nanos }
}

/// A time from the wire; an absent one is 1970. Beyond the year 2262 it is cut.
pub fn time_from_wire(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.unwrap_or_default();
    Timestamp(time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos)))
}

/// A duration on the wire. Longer ones than 292 years are cut.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A duration from the wire, or `default` where it is absent.
///
/// # Errors
/// When it is negative or has more than a second of nanoseconds.
pub fn duration_from_wire(
    field: &'static str,
    duration: Option<prost_types::Duration>,
    default: Duration,
) -> Result<Duration, WireError> {
    let Some(duration) = duration else { return Ok(default) };
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(WireError::new(field, "is no duration: it must not be negative")),
    }
}

impl From<Meta> for v1::Meta {
    fn from(meta: Meta) -> Self {
        Self {
            version: meta.version.0,
            created_at: Some(time_to_wire(meta.created_at)),
            updated_at: Some(time_to_wire(meta.updated_at)),
        }
    }
}

impl From<v1::Meta> for Meta {
    fn from(meta: v1::Meta) -> Self {
        Self {
            version: Version(meta.version),
            created_at: time_from_wire(meta.created_at),
            updated_at: time_from_wire(meta.updated_at),
        }
    }
}

#[cfg(test)]
mod tests;
