//! What a store stands on: a disk, threads that may wait for it, and how long its log may become.
//!
//! A real store has [`Ground::real`]. A simulation puts others in its place, and so sees every write, runs everything
//! on one thread, and meets after some dozen entries what a cluster meets after some thousand.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::engine::disk::{Disk, Files};

/// What is to be run to its end.
#[allow(unreachable_pub)] // simulations name it
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where work is done that waits for the disk.
#[allow(unreachable_pub)] // simulations name it
pub trait Threads: fmt::Debug + Send + Sync {
    /// Runs the core of a store, alone on a thread for as long as it lives.
    ///
    /// # Errors
    /// When there is no such thread.
    fn run_core(&self, core: Work) -> io::Result<()>;

    /// Runs work that waits for the disk beside what `runtime` does.
    fn run_aside(&self, runtime: &Handle, work: Work);
}

/// Threads of the system.
#[derive(Debug, Clone, Copy)]
struct SystemThreads;

impl Threads for SystemThreads {
    fn run_core(&self, core: Work) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("store".to_owned()).spawn(move || runtime.block_on(core))?;
        Ok(())
    }

    fn run_aside(&self, runtime: &Handle, work: Work) {
        let waits = runtime.clone();
        runtime.spawn_blocking(move || waits.block_on(work));
    }
}

/// When the log is shortened.
#[derive(Debug, Clone, Copy)]
#[allow(unreachable_pub)] // simulations name it
pub struct LogLength {
    /// Entries after which it is.
    pub between_snapshots: u64,
    /// Entries that are kept then.
    pub kept: u64,
}

/// What a store stands on. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) threads: Arc<dyn Threads>,
    pub(crate) log: LogLength,
}

impl Ground {
    /// This machine's. A snapshot costs nothing (it is the state itself, at a moment), so the log is kept short: what a
    /// follower that was away for a moment needs.
    pub(crate) fn real() -> Self {
        let log = LogLength { between_snapshots: 500, kept: 100 };
        Self { disk: Arc::new(Files), threads: Arc::new(SystemThreads), log }
    }
}

/// What `work`, which waits for the disk, gives; `None` when it panicked.
pub(crate) async fn aside<T: Send + 'static>(
    threads: &dyn Threads,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, done) = oneshot::channel();
    let work = async move {
        let _ = sender.send(work.await); // who asked may have gone away
    };
    threads.run_aside(&Handle::current(), Box::pin(work));
    done.await.ok()
}
