//! The thread of the API: a request is read, answered and written on one thread.
//!
//! Shared workers would hand it on: the one that waits for the kernel wakes another for each event, and on small machines
//! those wake-ups cost more than the request itself. What takes long is done elsewhere: commits on the store's thread,
//! files in blocking tasks, containers in processes of their own.

use std::io;

use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A runtime that one thread of its own will drive.
#[derive(Debug)]
pub(crate) struct ApiThread(Runtime);

impl ApiThread {
    /// # Errors
    /// When the system has no descriptors left for it.
    pub(crate) fn new() -> io::Result<Self> {
        Builder::new_current_thread()
            .max_blocking_threads(16)
            .thread_stack_size(512 * 1024)
            .enable_all()
            .build()
            .map(Self)
    }

    /// While the guard lives, sockets that are made belong to this thread.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.0.enter()
    }

    /// Drives `server` until it ends or `stop` is called. What the server ended with is told, unless it was stopped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn serve<T: Send + 'static>(
        self,
        server: impl Future<Output = T> + Send + 'static,
        stop: CancellationToken,
    ) -> io::Result<oneshot::Receiver<T>> {
        let (ended, end) = oneshot::channel();
        let run = move || {
            if let Some(result) = self.0.block_on(stop.run_until_cancelled(server)) {
                // Whoever does not listen any more is ending the process.
                let _ = ended.send(result);
            }
            // Blocking work may wait for containers: they go on without this process.
            self.0.shutdown_background();
        };
        std::thread::Builder::new().name("api".to_owned()).stack_size(1024 * 1024).spawn(run)?;
        Ok(end)
    }
}
