//! The shim's loop: requests, output and the container's end, one after another in one thread.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use libcontainer::container::Container;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use secretd_proto::shim::{Exit, Failure, PROTOCOL, Phase, Request, Response, Status, Step};
use secretd_sys::frame;

use super::cgroup;
use super::create::{Created, Output, chain};
use super::log::{Log, Stream};
use super::secrets::Secrets;
use crate::shim_config::ShimConfig;

/// How long a peer may take for the rest of a frame that it has begun.
const FRAME_PATIENCE: Duration = Duration::from_secs(5);

/// SIGCHLD as a descriptor. Blocked from here on, so that none is missed; the executor unblocks it for the container.
pub(crate) fn child_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A peer, and whether it waits for the container's end.
struct Connection {
    stream: UnixStream,
    waits: bool,
}

/// An open end of the container's output.
struct Source {
    file: File,
    stream: Stream,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Serve,
    End,
}

/// What woke the loop.
enum Ready {
    Signal,
    Listener,
    Connection(usize),
    Source(usize),
}

/// One container's shim.
pub(super) struct Server {
    config: ShimConfig,
    listener: UnixListener,
    signals: SignalFd,
    log: Log,
    phase: Phase,
    container: Option<Container>,
    pid: Option<i32>,
    secrets: Option<Secrets>,
    sources: Vec<Source>,
    connections: Vec<Connection>,
}

impl Server {
    pub(super) fn new(
        config: ShimConfig,
        listener: UnixListener,
        signals: SignalFd,
        log: Log,
        created: Result<Created, Failure>,
    ) -> Self {
        let mut server = Self {
            config,
            listener,
            signals,
            log,
            phase: Phase::Created,
            container: None,
            pid: None,
            secrets: None,
            sources: Vec::new(),
            connections: Vec::new(),
        };
        match created {
            Ok(created) => {
                server.container = Some(created.container);
                server.pid = Some(created.pid);
                server.secrets = created.secrets;
                server.sources = match created.output {
                    Output::Pipes(stdout, stderr) => vec![
                        Source { file: stdout, stream: Stream::Stdout },
                        Source { file: stderr, stream: Stream::Stderr },
                    ],
                    Output::Terminal(file) => vec![Source { file, stream: Stream::Stdout }],
                };
            }
            Err(failure) => server.phase = Phase::Failed(failure),
        }
        server
    }

    /// Serves until the container is deleted.
    pub(super) fn run(mut self) -> io::Result<()> {
        for source in &self.sources {
            rustix::io::ioctl_fionbio(&source.file, true)?;
        }
        let mut buffer = vec![0; 16 * 1024];
        loop {
            for ready in self.wait()?.into_iter().rev() {
                match ready {
                    Ready::Signal => self.on_child(&mut buffer),
                    Ready::Listener => self.on_connect(),
                    Ready::Source(index) => self.on_output(index, &mut buffer),
                    Ready::Connection(index) => {
                        if self.on_request(index) == Next::End {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// What is ready. Later indexes come later, so that a caller who removes from the end keeps the others right.
    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut what = vec![Ready::Signal, Ready::Listener];
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd(), self.listener.as_fd()];
        for (index, connection) in self.connections.iter().enumerate() {
            what.push(Ready::Connection(index));
            descriptors.push(connection.stream.as_fd());
        }
        for (index, source) in self.sources.iter().enumerate() {
            what.push(Ready::Source(index));
            descriptors.push(source.file.as_fd());
        }
        let mut polled: Vec<PollFd<'_>> =
            descriptors.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let any = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        Ok(what.into_iter().zip(&polled).filter(|(_, fd)| any(fd)).map(|(what, _)| what).collect())
    }

    fn on_connect(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let root = rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid.is_root());
        if root && stream.set_read_timeout(Some(FRAME_PATIENCE)).is_ok() {
            self.connections.push(Connection { stream, waits: false });
        }
    }

    fn on_request(&mut self, index: usize) -> Next {
        let Some(connection) = self.connections.get(index) else { return Next::Serve };
        let Ok((request, _)) = frame::receive::<Request>(&connection.stream) else {
            self.connections.swap_remove(index);
            return Next::Serve;
        };
        if request == Request::WaitExit && !matches!(self.phase, Phase::Exited(_) | Phase::Failed(_)) {
            if let Some(connection) = self.connections.get_mut(index) {
                connection.waits = true;
            }
            return Next::Serve;
        }
        let end = request == Request::Delete;
        let response = self.answer(request);
        if let Some(connection) = self.connections.get(index) {
            let _ = frame::send(&connection.stream, &response, &[]); // a peer that is gone asks again
        }
        if end && response == Response::Done { Next::End } else { Next::Serve }
    }

    fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::Status | Request::WaitCreated | Request::WaitExit => Response::Status(self.status()),
            Request::Start => self.done(Step::Start, Self::start),
            Request::Kill { signal } => self.done(Step::Kill, |server| server.kill(signal)),
            Request::Wake { paths } => self.done(Step::Secrets, |server| {
                server
                    .secrets
                    .as_ref()
                    .map_or(Ok(()), |secrets| secrets.wake(&paths))
                    .map_err(|error| error.to_string())
            }),
            Request::Remount => self.done(Step::Secrets, |server| {
                server.secrets.as_mut().map_or(Ok(()), Secrets::remount).map_err(|error| error.to_string())
            }),
            Request::Resize { rows, columns } => self.done(Step::State, |server| server.resize(rows, columns)),
            Request::Delete => self.done(Step::State, Self::delete),
        }
    }

    fn done(&mut self, step: Step, work: impl FnOnce(&mut Self) -> Result<(), String>) -> Response {
        match work(self) {
            Ok(()) => Response::Done,
            Err(message) => Response::Failed(Failure { step, message }),
        }
    }

    fn status(&self) -> Status {
        let secret_backend = self.secrets.as_ref().map_or("none", Secrets::backend).to_owned();
        Status { protocol: PROTOCOL, phase: self.phase.clone(), pid: self.pid, secret_backend }
    }

    fn start(&mut self) -> Result<(), String> {
        match (&self.phase, &mut self.container) {
            (Phase::Created, Some(container)) => {
                container.start().map_err(|error| chain(&error))?;
                self.phase = Phase::Running;
                Ok(())
            }
            (Phase::Running, _) => Ok(()),
            (phase, _) => Err(format!("the container cannot be started: it is {}", word(phase))),
        }
    }

    /// A container that has ended needs no signal: that is what the signal was for.
    fn kill(&self, signal: i32) -> Result<(), String> {
        let (Phase::Running | Phase::Created, Some(pid)) = (&self.phase, self.pid) else { return Ok(()) };
        let signal = Signal::try_from(signal).map_err(|_| format!("there is no signal {signal}"))?;
        match nix::sys::signal::kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<(), String> {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal =
            self.sources.first().filter(|_| self.config.process.tty).ok_or("the container has no terminal")?;
        rustix::termios::tcsetwinsize(&terminal.file, size).map_err(|error| error.to_string())
    }

    /// Kills what runs, and takes the container and its control group away. What is gone already is fine.
    fn delete(&mut self) -> Result<(), String> {
        if let Some(secrets) = &self.secrets {
            secrets.wipe();
        }
        if let Some(pid) = self.pid.map(Pid::from_raw) {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL); // it may have ended just now
            // When the first process is reaped the kernel has ended all of its namespace, and the control group is free.
            // It waits there for a command's process whose own parent, outside, has not taken note of its end.
            for _ in 0..50 {
                if self.pid.is_none() {
                    break;
                }
                let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut polled, 100_u8);
                self.on_child(&mut [0; 4096]);
            }
            if self.pid.is_some() {
                return Err("processes of the container do not end".to_owned());
            }
        }
        if let Some(container) = &mut self.container {
            container.delete(true).map_err(|error| chain(&error))?;
            self.container = None;
        }
        Ok(())
    }

    fn on_output(&mut self, index: usize, buffer: &mut [u8]) {
        if !self.read_source(index, buffer) {
            self.sources.swap_remove(index);
        }
    }

    /// Takes what is there; whether more may come.
    fn read_source(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let Some(source) = self.sources.get_mut(index) else { return false };
        let stream = source.stream;
        loop {
            match source.file.read(buffer) {
                Ok(0) => break,
                Ok(length) => self.log.take(stream, buffer.get(..length).unwrap_or_default(), now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // a terminal whose other end is closed gives EIO
            }
        }
        self.log.finish(stream, now());
        false
    }

    fn on_child(&mut self, buffer: &mut [u8]) {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if Some(pid.as_raw()) == self.pid {
                self.on_exit(code, buffer);
            }
        }
    }

    fn on_exit(&mut self, code: i32, buffer: &mut [u8]) {
        // The kernel has killed the rest of the PID namespace: what they wrote is in the pipes.
        for index in (0..self.sources.len()).rev() {
            self.on_output(index, buffer);
        }
        let oom_killed = cgroup::out_of_memory(&self.config.cgroup);
        self.phase = Phase::Exited(Exit { code, oom_killed, at_unix_nanos: now() });
        self.pid = None;
        let response = Response::Status(self.status());
        for connection in &mut self.connections {
            if std::mem::take(&mut connection.waits) {
                let _ = frame::send(&connection.stream, &response, &[]);
            }
        }
    }
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Creating => "being created",
        Phase::Created => "created",
        Phase::Running => "running",
        Phase::Exited(_) => "ended",
        Phase::Failed(_) => "not there",
    }
}

fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
