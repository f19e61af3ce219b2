//! The control socket: accepts root's connections and answers their requests in order, one thread a connection.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, UCred};
use secretd_proto::fs::{CgroupPaths, PROTOCOL, Refusal, Request, Response, Status, Target};
use secretd_proto::id::{SecretId, TaskId};
use secretd_proto::limit::MAX_SECRET_LENGTH;
use secretd_sys::frame::{self, ReceiveError};

use crate::access::tells_apart;
use crate::audit::{Audit, Outcome, Reason, Record};
use crate::bounce::Bounce;
use crate::caller::Shim;
use crate::clock;
use crate::connections::Connections;
use crate::filesystem::TaskFilesystem;
use crate::next_request::NextRequest;
use crate::node_key::NodeKey;
use crate::protection::Protections;
use crate::registry::{Attachment, Notices, Registry};
use crate::session;

/// All that a connection needs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) key: Arc<NodeKey>,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) bounce: Arc<Bounce>,
    pub(crate) protections: Protections,
    pub(crate) connections: Connections,
    /// Whether files of a memory filesystem are filled here: on a node that serves mounts, nobody may ask for that.
    pub(crate) fills_files: bool,
}

/// How long the one who has started this process may take to connect.
const FIRST_CONNECTION: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Accepts connections until nobody needs this process: no task has secrets, and no connection is left. A secretd that
/// has ended leaves it behind only for containers that go on.
///
/// # Errors
/// When the listening socket does not work any more.
pub(crate) fn serve(server: &Arc<Server>, listener: UnixListener) -> io::Result<()> {
    let mut first = [PollFd::new(&listener, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut first, Some(&FIRST_CONNECTION))) == Ok(0) {
        return Ok(()); // whoever has started this process is gone
    }
    let listener = Arc::new(listener);
    loop {
        let (socket, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(_) if server.connections.are_over() => return Ok(()),
            Err(error) if is_transient(&error) => continue,
            Err(error) => return Err(error),
        };
        server.connections.begin();
        let (of_thread, listener) = (Arc::clone(server), Arc::clone(&listener));
        let spawned = thread::Builder::new().name("control".to_owned()).stack_size(STACK).spawn(move || {
            of_thread.converse(&socket);
            of_thread.end_connection(&listener);
        });
        if spawned.is_err() {
            server.connections.end(|| false); // it closes, and the peer connects again
        }
    }
}

impl Server {
    fn end_connection(&self, listener: &UnixListener) {
        if self.connections.end(|| self.registry.lock().is_idle()) {
            let _ = rustix::net::shutdown(listener, Shutdown::Both); // wakes who accepts
        }
    }

    fn converse(self: &Arc<Self>, socket: &UnixStream) {
        let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else { return };
        if !peer.uid.is_root() {
            let _ = frame::send(socket, &Response::Refused(Refusal::NotAllowed), &[]);
            return;
        }
        let mut greeted = false;
        loop {
            let response = match frame::receive::<Request>(socket) {
                Ok((request, _)) if !greeted && !matches!(request, Request::Hello { .. }) => {
                    Response::Refused(Refusal::Protocol(PROTOCOL))
                }
                Ok((request, fds)) => {
                    let response = self.answer(request, fds, &peer).unwrap_or_else(Response::Refused);
                    greeted |= matches!(response, Response::Hello { .. });
                    response
                }
                Err(ReceiveError::Decode(_)) => Response::Refused(Refusal::Malformed),
                Err(
                    ReceiveError::Closed
                    | ReceiveError::Partial
                    | ReceiveError::TooLong(_)
                    | ReceiveError::TooManyDescriptors
                    | ReceiveError::Socket(_),
                ) => return,
            };
            if frame::send(socket, &response, &[]).is_err() {
                return;
            }
        }
    }

    fn answer(self: &Arc<Self>, request: Request, fds: Vec<OwnedFd>, peer: &UCred) -> Result<Response, Refusal> {
        match request {
            Request::Hello { protocol: PROTOCOL } => {
                Ok(Response::Hello { protocol: PROTOCOL, public_key: self.key.public() })
            }
            Request::Hello { .. } => Err(Refusal::Protocol(PROTOCOL)),
            Request::Store { secret, version, ciphertext } => {
                self.registry.lock().store(secret, version, ciphertext)?;
                Ok(Response::Done)
            }
            Request::Forget { secret, version } => {
                self.registry.lock().forget(secret, version);
                Ok(Response::Done)
            }
            Request::Publish { task, cluster, node, grants } => {
                let mut registry = self.registry.lock();
                let done = registry.publish(task, cluster, node, &grants)?;
                Ok(changed(registry, task, done))
            }
            Request::Update { task, grants } => {
                let mut registry = self.registry.lock();
                let done = registry.update(task, &grants)?;
                Ok(changed(registry, task, done))
            }
            Request::Retract { task } => {
                let notices = self.registry.lock().retract(task);
                notify(notices);
                Ok(Response::Done)
            }
            Request::Attach { task, cgroup } => self.attach(task, cgroup, only(fds)?, peer),
            Request::Fill { task, target } => self.fill(task, &target, &only(fds)?, peer),
            Request::Woken { task, targets } => {
                self.registry.lock().woken(task, &targets);
                Ok(Response::Done)
            }
            Request::Status => Ok(Response::Status(self.status())),
            Request::AuditTo => {
                self.audit.write_to(only(fds)?).map_err(|error| Refusal::Descriptor(error.to_string()))?;
                Ok(Response::Done)
            }
        }
    }

    fn attach(
        self: &Arc<Self>,
        task: TaskId,
        cgroup: CgroupPaths,
        device: OwnedFd,
        peer: &UCred,
    ) -> Result<Response, Refusal> {
        if !tells_apart(&cgroup) {
            return Err(Refusal::Malformed); // the root group would let every process of the machine in
        }
        let (view, number, is_taken) = {
            let mut registry = self.registry.lock();
            (registry.view(task)?, registry.number_attachment(), registry.is_served_for_another(task, pid_of(peer)))
        };
        let outcome = if is_taken { Outcome::Refused(Reason::SecondMount) } else { Outcome::Attached };
        self.record(task, None, peer, outcome)?;
        let shim = Shim::hold(peer.pid).map_err(|error| Refusal::Descriptor(error.to_string()))?;
        let shim = Arc::new(shim);
        let (audit, bounce) = (Arc::clone(&self.audit), Arc::clone(&self.bounce));
        let next_request =
            device.try_clone().map(NextRequest::of).map_err(|error| Refusal::Descriptor(error.to_string()))?;
        let filesystem =
            TaskFilesystem { view: Arc::clone(&view), cgroup, shim: Arc::clone(&shim), audit, bounce, next_request };

        let over = Arc::new(AtomicBool::new(false));
        let ended = {
            let (server, over) = (Arc::clone(self), Arc::clone(&over));
            move || {
                over.store(true, Ordering::SeqCst);
                server.registry.lock().detach(task, number);
            }
        };
        let notifier = session::serve(filesystem, device, ended)
            .map_err(|error| Refusal::Descriptor(format!("{error}: {}", source(&error))))?;
        let mut registry = self.registry.lock();
        registry.attach(&view, Attachment { number, notifier, shim })?;
        if over.load(Ordering::SeqCst) {
            registry.detach(task, number); // it ended before it was known, so `ended` found nothing to detach
        }
        Ok(Response::Done)
    }

    fn fill(&self, task: TaskId, target: &Target, file: &OwnedFd, peer: &UCred) -> Result<Response, Refusal> {
        let view = self.registry.lock().view(task)?;
        let content = view.content_at(target).ok_or_else(|| Refusal::Target(target.path_in_container()))?;
        let outcome = if self.fills_files { Outcome::Filled } else { Outcome::Refused(Reason::Fill) };
        self.record(task, Some((content.secret, content.version)), peer, outcome)?;
        let filled = rustix::fs::ftruncate(file, 0).and_then(|()| {
            self.bounce.lend(&content.payload, 0, MAX_SECRET_LENGTH, |bytes| {
                let mut written = 0;
                while written < bytes.len() {
                    written += rustix::io::pwrite(file, &bytes[written..], written as u64)?;
                }
                Ok(())
            })
        });
        filled.map_err(|error| Refusal::Descriptor(io::Error::from(error).to_string()))?;
        Ok(Response::Done)
    }

    /// Records what a peer asked for; an error where it was refused, or could not be recorded.
    fn record(
        &self,
        task: TaskId,
        secret: Option<(SecretId, u64)>,
        peer: &UCred,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let (process, uid, gid) = (pid_of(peer), peer.uid.as_raw(), peer.gid.as_raw());
        let record = Record { task, secret, process, thread: process, uid, gid, outcome };
        let written = self.audit.record(&record, clock::now());
        match outcome {
            Outcome::Refused(_) => Err(Refusal::NotAllowed),
            Outcome::Allowed | Outcome::Attached | Outcome::Filled => written.map_err(|_| Refusal::NotRecorded),
        }
    }

    fn status(&self) -> Status {
        let mut weaknesses = self.protections.weaknesses.clone();
        let lost = self.audit.lost();
        if lost > 0 {
            weaknesses.push(format!("{lost} audit records could not be written; their opens were refused"));
        }
        let registry = self.registry.lock();
        Status {
            tasks: registry.published(),
            payload_bytes: registry.payload_bytes(),
            memory: self.protections.memory_name().to_owned(),
            sandbox: self.protections.sandbox.iter().map(|&name| name.to_owned()).collect(),
            weaknesses,
            opens: self.audit.opens(),
        }
    }
}

/// The kernel is notified without the lock.
fn changed(registry: MutexGuard<'_, Registry>, task: TaskId, (targets, notices): (Vec<Target>, Notices)) -> Response {
    let attached = registry.is_attached(task);
    drop(registry);
    notify(notices);
    Response::Changed { targets, attached }
}

fn notify(notices: Notices) {
    if let Some((notifier, stale)) = notices {
        session::invalidate(&notifier, &stale);
    }
}

fn only(fds: Vec<OwnedFd>) -> Result<OwnedFd, Refusal> {
    let [fd] = <[OwnedFd; 1]>::try_from(fds)
        .map_err(|fds| Refusal::Descriptor(format!("{} came with a request that needs one", fds.len())))?;
    Ok(fd)
}

fn pid_of(peer: &UCred) -> u32 {
    peer.pid.as_raw_nonzero().get().unsigned_abs()
}

fn source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| "no cause is known".to_owned(), ToString::to_string)
}

/// Accepting fails now and then without any fault of the socket: the peer is gone again, or descriptors are short.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [Errno::CONNABORTED, Errno::INTR, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno)
    })
}

/// Opening an envelope and wiping the stack after it stay well below this.
const STACK: usize = 256 * 1024;
