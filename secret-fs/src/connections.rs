//! How many connections there are, and whether the last one has ended for good.

use parking_lot::Mutex;

/// The connections to the control socket.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    open: usize,
    over: bool,
}

impl Connections {
    /// One more.
    pub(crate) fn begin(&self) {
        self.0.lock().open += 1;
    }

    /// One less. Whether this was the last, nothing keeps this process (`is_idle`), and so none should follow.
    pub(crate) fn end(&self, is_idle: impl FnOnce() -> bool) -> bool {
        let mut count = self.0.lock();
        count.open = count.open.saturating_sub(1);
        count.over |= count.open == 0 && is_idle();
        count.over
    }

    /// Whether no connection should follow.
    pub(crate) fn are_over(&self) -> bool {
        self.0.lock().over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_one_of_an_idle_process_is_the_end() {
        let connections = Connections::default();
        connections.begin();
        connections.begin();

        assert!(!connections.end(|| true), "one is left");
        assert!(!connections.end(|| false), "tasks are left");
        assert!(!connections.are_over());

        connections.begin();
        assert!(connections.end(|| true));
        assert!(connections.are_over());
    }
}
