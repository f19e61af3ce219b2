//! The wall clock of this machine: for "3 minutes ago" and `--since 10m`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since 1970, in UTC.
#[expect(clippy::disallowed_methods, reason = "the one place of this command that asks for the time")]
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
