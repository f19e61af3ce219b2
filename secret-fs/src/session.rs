//! Serves one mount: the kernel's side of a task's filesystem, on threads of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};

use crate::filesystem::TaskFilesystem;
use crate::view::Stale;

/// Why a mount is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The descriptor is no `/dev/fuse`, is not mounted, or the kernel and fuser do not agree on a protocol.
    #[error("the kernel's first request cannot be answered")]
    Handshake(#[source] io::Error),
    /// There is no memory for another thread, or the limit of threads is reached.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// Answers the kernel's first request, then all others on a thread of its own until the filesystem is unmounted
/// everywhere; `ended` runs then. Gives what tells the kernel of changes; it holds the descriptor open, so it must be
/// dropped when `ended` runs, else callers of a dead session would wait for ever.
///
/// # Errors
/// See [`ServeError`].
pub(crate) fn serve(
    filesystem: TaskFilesystem,
    device: OwnedFd,
    ended: impl FnOnce() + Send + 'static,
) -> Result<Notifier, ServeError> {
    let name = format!("fuse-{:.8}", filesystem.view.task().to_string());
    let session = Session::from_fd(filesystem, device, SessionACL::All, Config::default());
    let session = session.map_err(ServeError::Handshake)?;
    let notifier = session.notifier();
    thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(move || {
            // How it ended changes nothing: the task shows as not attached, and the shim mounts anew when asked to.
            let _ = session.run();
            ended();
        })
        .map_err(ServeError::Thread)?;
    Ok(notifier)
}

/// Tells the kernel what it must drop. Nothing may be locked: this waits for requests that are under way.
pub(crate) fn invalidate(notifier: &Notifier, stale: &[Stale]) {
    for stale in stale {
        // An error means that the kernel does not have it, or that the session has ended: then nothing is stale.
        let _ = match stale {
            Stale::Inode(ino) => notifier.inval_inode(INodeNo(*ino), 0, 0),
            // The kernel tells watchers of the end of the file, and keeps for as long as it had the name that there is
            // none: so the name is dropped too.
            Stale::Entry { parent, ino, name } => {
                let _ = notifier.delete(INodeNo(*parent), INodeNo(*ino), name.as_ref());
                notifier.inval_entry(INodeNo(*parent), name.as_ref())
            }
        };
    }
}

/// This thread only starts fuser's own and waits for it.
const STACK: usize = 64 * 1024;
