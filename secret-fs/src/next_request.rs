//! Waits for the request that follows an open, without going to sleep.
//!
//! Who opens a secret reads it at once. The sleep and the wake-up in between would cost more than all that an open does
//! (the other processor is idle and must be told), so the thread looks for the read for a moment, as the kernel does for
//! sockets (busy polling, `net.core.busy_poll`) and virtual processors. It costs at most [`LONGEST`] of one processor for
//! each open.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A reader that is this late is doing something else.
const LONGEST: Duration = Duration::from_micros(60);

/// The device of a session, as far as this looks at it.
#[derive(Debug)]
pub(crate) struct NextRequest {
    device: OwnedFd,
    /// With a single processor, whoever is waited for could not run.
    is_worth_it: bool,
}

impl NextRequest {
    /// The next request that comes from `device`.
    pub(crate) fn of(device: OwnedFd) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { device, is_worth_it: processors > 1 }
    }

    /// Returns when there is a request, or soon.
    pub(crate) fn expect(&self) {
        let start = Instant::now();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        while self.is_worth_it && start.elapsed() < LONGEST {
            let mut device = [PollFd::from_borrowed_fd(self.device.as_fd(), PollFlags::IN)];
            if poll(&mut device, Some(&now)) != Ok(0) {
                return;
            }
            std::hint::spin_loop();
        }
    }
}
