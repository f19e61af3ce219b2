//! When this node's certificate is to be renewed: by the wall clock, which may be wrong and jump, and never so often that it
//! would be a storm, which a clock that does not jump sees to.

use std::time::Duration;

use secretd_ca::identity::Validity;
use secretd_core::seam::clock::Clock;
use secretd_core::time::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};

/// A clock that jumps is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// However long certificates count, a node whose clock is wrong asks no oftener than this.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// When to renew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    validity: Validity,
    at: Timestamp,
    /// Not before this.
    rest: Instant,
}

impl Due {
    /// For a certificate that the node has had before.
    pub(crate) fn of(validity: Validity) -> Self {
        let random = f64::from(*secretd_proto::id::NodeId::random().as_bytes().first().unwrap_or(&0)) / 255.0;
        Self { validity, at: validity.renew_at(random), rest: Instant::now() }
    }

    /// For one that has just been made: it is kept for a while, whatever the clock says.
    pub(crate) fn of_new(validity: Validity) -> Self {
        let rest = (validity.lifetime() / 4).min(LONGEST_REST);
        Self::of(validity).put_off(rest)
    }

    /// Not before `pause` is over.
    pub(crate) fn put_off(self, pause: Duration) -> Self {
        Self { rest: Instant::now() + pause, ..self }
    }

    /// When `pause` is over, however long the certificate counts: the role that came with it could not be taken.
    pub(crate) fn again_after(self, pause: Duration) -> Self {
        Self { at: self.validity.not_before, ..self.put_off(pause) }
    }

    /// Whether it is time. A certificate that does not count yet was made while a clock was wrong.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.at || now < self.validity.not_before
    }

    /// Returns when it is time. Cancel-safe.
    pub(crate) async fn wait(self, clock: &dyn Clock) {
        sleep_until(self.rest).await;
        loop {
            let now = clock.now();
            if self.is_due(now) {
                return;
            }
            let left = u64::try_from(self.at.0.saturating_sub(now.0)).unwrap_or(0);
            sleep(Duration::from_nanos(left).min(LONGEST_SLEEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const START: i64 = 1_800_000_000_000_000_000;

    /// A wall clock that goes with tokio's paused time, and can be set.
    #[derive(Debug, Clone)]
    struct Jumping(Arc<Mutex<i64>>, Instant);

    impl Jumping {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(0)), Instant::now())
        }

        fn jump(&self, by: i64) {
            *self.0.lock() += by;
        }
    }

    impl Clock for Jumping {
        fn now(&self) -> Timestamp {
            Timestamp(START + *self.0.lock() + i64::try_from(self.1.elapsed().as_nanos()).unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn role_that_could_not_be_taken_is_asked_for_again() {
        let clock = Jumping::new();
        let due = Due::of_new(made(&clock));
        assert!(!due.is_due(clock.now()));
        let began = Instant::now();
        due.again_after(Duration::from_secs(5)).wait(&clock).await;
        assert!((5..6).contains(&began.elapsed().as_secs()));
    }

    /// Of a certificate that counts for a day, as a manager with that clock makes it.
    fn made(by: &Jumping) -> Validity {
        let now = by.now();
        Validity { not_before: Timestamp(now.0 - HOUR), not_after: Timestamp(now.0 + 24 * HOUR) }
    }

    /// Renewals of a node within a time, by a manager whose clock is right or the node's own.
    async fn renewals(node: &Jumping, manager: &Jumping, due: &mut Due, within: Duration) -> usize {
        let end = Instant::now() + within;
        let mut count = 0;
        while tokio::time::timeout_at(end, due.wait(node)).await.is_ok() {
            *due = Due::of_new(made(manager));
            count += 1;
            assert!(count < 1_000, "a storm");
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn certificate_is_renewed_once_in_its_time() {
        let clock = Jumping::new();
        let mut due = Due::of_new(made(&clock));

        let days = renewals(&clock, &clock, &mut due, Duration::from_hours(4 * 24)).await;

        assert!((5..=8).contains(&days), "{days} renewals in four days");
    }

    #[tokio::test(start_paused = true)]
    async fn clock_that_jumps_brings_no_storm_and_no_certificate_that_is_missed() {
        for by in [1, -1, 3_600, -3_600, 86_400, -86_400, 315_360_000, -315_360_000] {
            let (node, manager) = (Jumping::new(), Jumping::new());
            let mut due = Due::of_new(made(&manager));
            node.jump(by * 1_000_000_000);
            let wrong = renewals(&node, &manager, &mut due, Duration::from_hours(4)).await;
            node.jump(-by * 1_000_000_000);
            let right = renewals(&node, &manager, &mut due, Duration::from_hours(20)).await;

            assert!(wrong <= 5, "{wrong} renewals in four hours with a clock that is wrong by {by} s");
            assert!(right >= 1, "the certificate was not renewed in time after a jump of {by} s");
            assert!(!due.validity.is_expired(node.now()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_manager_made_for_itself_with_a_wrong_clock_is_replaced_when_it_is_right() {
        for by in [3_600 * 24, 315_360_000] {
            let clock = Jumping::new();
            clock.jump(by * 1_000_000_000);
            let mut due = Due::of(made(&clock));
            clock.jump(-by * 1_000_000_000);

            assert_eq!(renewals(&clock, &clock, &mut due, Duration::from_secs(60)).await, 1);
            assert!(due.validity.not_before <= clock.now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_attempts_are_repeated_with_pauses() {
        let clock = Jumping::new();
        let old = Due::of(Validity { not_before: Timestamp(0), not_after: Timestamp(START - 1) });
        let began = Instant::now();

        old.wait(&clock).await;
        old.put_off(Duration::from_secs(5)).wait(&clock).await;

        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
