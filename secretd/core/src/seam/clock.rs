//! Wall time. Timers use tokio's, so that tests can pause them.

use crate::time::Timestamp;

/// Tells the wall time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now. May go back when an operator sets the clock.
    fn now(&self) -> Timestamp;
}

/// The system's clock (clock_gettime(2), CLOCK_REALTIME).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that asks the system
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}
