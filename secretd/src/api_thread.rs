//! The thread of the API: a request is read, answered and written on one thread.
//!
//! Shared workers would hand it on: the one that waits for the kernel wakes another for each event, and on small machines
//! those wake-ups cost more than the request itself. What takes long is done elsewhere: commits on the store's thread,
//! files in blocking tasks, containers in processes of their own.

use std::io;
use std::pin::Pin;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

type Server = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The running thread, before it has a server. It ends when this is dropped.
pub(crate) struct ApiThread {
    runtime: Handle,
    server: oneshot::Sender<Server>,
}

impl ApiThread {
    /// Starts the thread. It ends, whatever it does then, when `stop` is called.
    ///
    /// # Errors
    /// When the system has no descriptors or no threads left.
    pub(crate) fn start(stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(16)
            .thread_stack_size(512 * 1024)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (server, given) = oneshot::channel::<Server>();
        let run = move || {
            let serve = async {
                if let Ok(server) = given.await {
                    server.await;
                }
            };
            let _ = runtime.block_on(stop.run_until_cancelled(serve));
            // Blocking work may wait for containers: they go on without this process.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("api".to_owned()).stack_size(1024 * 1024).spawn(run)?;
        Ok(Self { runtime: handle, server })
    }

    /// While the guard lives, sockets that are made belong to this thread.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Gives the thread its server. What that ends with is told, unless the thread is stopped before.
    pub(crate) fn serve<T: Send + 'static>(
        self,
        server: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (ended, end) = oneshot::channel();
        // A thread that has been stopped takes no server, and whoever does not listen any more is ending the process.
        let _ = self.server.send(Box::pin(async move {
            let _ = ended.send(server.await);
        }));
        end
    }
}
