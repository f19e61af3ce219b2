//! The process of one command: joins the container, carries bytes both ways, tells the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use camino::Utf8Path;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use secretd_sys::frame;
use serde_json::json;

use super::message::{FromProcess, Start, ToProcess};
use crate::executor::TaskExecutor;
use crate::shim::{console, create, identity, program, rootfs, serve};
use crate::shim_config::ShimConfig;
use crate::{seccomp, spec::capability};

/// The whole life of the process. `socket` is the inherited end; must run before the process has a second thread.
pub fn main_exec(task_dir: &Utf8Path, socket: OwnedFd) -> ExitCode {
    let socket = UnixStream::from(socket);
    let Ok((ToProcess::Start(start), _)) = frame::receive::<ToProcess>(&socket) else { return ExitCode::FAILURE };
    let joined = serve::child_signals().map_err(|error| Refusal::Failed(error.to_string())).and_then(|signals| {
        secretd_sys::child::become_subreaper().map_err(|error| Refusal::Failed(error.to_string()))?;
        join(task_dir, &start).map(|running| (signals, running))
    });
    match joined {
        Ok((signals, running)) => {
            let _ = frame::send(&socket, &FromProcess::Started, &[]);
            Relay { socket, signals, running, to_command: VecDeque::new(), stdin_ends: false }.run()
        }
        Err(Refusal::Failed(reason)) => {
            let _ = frame::send(&socket, &FromProcess::Refused(reason), &[]);
            ExitCode::FAILURE
        }
        Err(Refusal::Command { reason, exit_code }) => {
            let said = [
                FromProcess::Started,
                FromProcess::Stderr(format!("{reason}\n").into_bytes()),
                FromProcess::Exited(exit_code),
            ];
            said.iter().for_each(|message| drop(frame::send(&socket, message, &[])));
            ExitCode::SUCCESS
        }
    }
}

/// Why a command does not run.
enum Refusal {
    /// The container, or this node.
    Failed(String),
    /// The command itself: it ends as a shell ends that cannot run it.
    Command { reason: String, exit_code: i32 },
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<program::FindError> for Refusal {
    fn from(error: program::FindError) -> Self {
        Self::Command { exit_code: error.exit_code(), reason: error.to_string() }
    }
}

/// A command in a container, and our ends of its stdio.
struct Running {
    pid: Pid,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    terminal: bool,
}

fn join(task_dir: &Utf8Path, start: &Start) -> Result<Running, Refusal> {
    let text = |error: &dyn std::error::Error| create::chain(error);
    let config = ShimConfig::load(task_dir).map_err(|error| text(&error))?;
    let state = task_dir.join(create::STATE);
    let container = libcontainer::container::Container::load(state.join(config.task.to_string()).into_std_path_buf())
        .map_err(|_| "the container is not running".to_owned())?;
    let pid = container.pid().ok_or_else(|| "the container is not running".to_owned())?;
    let executor = executor(&config, start, pid.as_raw())?;

    let finishing = capability::with_finishing(&executor.capabilities);
    let process = json!({
        "terminal": start.tty,
        "user": {"uid": 0, "gid": 0},
        "args": start.args,
        "env": executor.env,
        "cwd": workdir(&config, start),
        "capabilities": {
            "bounding": finishing, "effective": finishing, "permitted": finishing, "inheritable": [], "ambient": [],
        },
        "rlimits": crate::spec::rlimits(&config.process),
        "oomScoreAdj": config.process.oom_score_adj,
    });
    // libcontainer takes the process from a file; this one lies in the run directory, for root, for a moment.
    let file = task_dir.join(format!("exec-{}.json", std::process::id()));
    std::fs::write(&file, process.to_string()).map_err(|error| text(&error))?;
    let running = build(task_dir, &config, start, executor, &file);
    let _ = std::fs::remove_file(&file);
    Ok(running?)
}

fn workdir<'a>(config: &'a ShimConfig, start: &'a Start) -> &'a str {
    if start.workdir.is_empty() { &config.process.workdir } else { &start.workdir }
}

/// Exit code for a command that is there and cannot be run (POSIX, 2.8.2).
const CANNOT_RUN: i32 = 126;

fn check_workdir(root: &rootfs::Rootfs, workdir: &str) -> Result<(), Refusal> {
    let reason = match root.is_directory(workdir) {
        _ if !workdir.starts_with('/') => "it must be an absolute path".to_owned(),
        Ok(true) => return Ok(()),
        Ok(false) => "it is not a directory in the container".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => "there is no such directory in the container".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Refusal::Command { reason: format!("working directory \"{workdir}\": {reason}"), exit_code: CANNOT_RUN })
}

fn executor(config: &ShimConfig, start: &Start, pid: i32) -> Result<TaskExecutor, Refusal> {
    let root = rootfs::Rootfs::of_process(pid).map_err(|_| "the container is not running".to_owned())?;
    let read = |path: &str| root.read_text(path).map_err(|error| format!("{path}: {error}"));
    let (user, groups) = match start.user.as_str() {
        "" => (config.process.user.as_str(), config.process.groups.as_slice()),
        user => (user, &[][..]),
    };
    let identity = identity::resolve(user, groups, &read("/etc/passwd")?, &read("/etc/group")?)
        .map_err(|error| error.to_string())?;
    let capabilities =
        capability::effective(&config.process.cap_add, &config.process.cap_drop).map_err(|error| error.to_string())?;
    let mut env = config.process.env.clone();
    for entry in &start.env {
        let key = entry.split('=').next().unwrap_or_default();
        env.retain(|old| old.split('=').next() != Some(key));
        env.push(entry.clone());
    }
    let name = start.args.first().ok_or_else(|| "no command: give one after the task's name".to_owned())?;
    check_workdir(&root, workdir(config, start))?;
    let program = program::find(&root, name, &env, workdir(config, start))?;
    Ok(TaskExecutor {
        filters: seccomp::compile(&capabilities).map_err(|error| error.to_string())?,
        env: create::environment(&env, &identity.home, &config.hostname, start.tty),
        identity,
        capabilities,
        no_new_privileges: config.process.no_new_privileges,
        init: false,
        program,
        args: start.args.clone(),
    })
}

fn build(
    task_dir: &Utf8Path,
    config: &ShimConfig,
    start: &Start,
    executor: TaskExecutor,
    process: &Utf8Path,
) -> Result<Running, String> {
    let refused = |error: &dyn std::error::Error| {
        let hint = if config.limits.pids > 0 { "; has it as many processes as --limit-pids lets it have?" } else { "" };
        format!("the command cannot be started: {}{hint}", create::chain(error))
    };
    let builder = ContainerBuilder::new(config.task.to_string(), SyscallType::default())
        .with_root_path(task_dir.join(create::STATE).as_std_path())
        .map_err(|error| refused(&error))?
        .with_executor(executor);
    let process = Some(process.as_std_path());
    if start.tty {
        let path = task_dir.join(format!("exec-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).map_err(|error| refused(&error))?;
        let tenant =
            builder.with_console_socket(Some(path.as_std_path())).as_tenant().with_process(process).with_detach(true);
        let built = tenant.build().map_err(|error| refused(&error));
        let terminal = built.and_then(|pid| Ok((pid, console::receive(&listener).map_err(|error| refused(&error))?)));
        let _ = std::fs::remove_file(&path);
        let (pid, terminal) = terminal?;
        let pid = Pid::from_raw(pid.as_raw());
        let output = terminal.try_clone().map_err(|error| refused(&error))?;
        let running = Running { pid, stdin: Some(terminal), stdout: Some(output), stderr: None, terminal: true };
        running.resize(start.size);
        return Ok(running);
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| refused(&error));
    let ((their_in, stdin), (stdout, their_out), (stderr, their_err)) = (pipe()?, pipe()?, pipe()?);
    let builder = builder.with_stdin(their_in).with_stdout(their_out).with_stderr(their_err);
    let pid = builder.as_tenant().with_process(process).with_detach(true).build().map_err(|error| refused(&error))?;
    Ok(Running {
        pid: Pid::from_raw(pid.as_raw()), // libcontainer's nix is another release
        stdin: Some(stdin.into()),
        stdout: Some(stdout.into()),
        stderr: Some(stderr.into()),
        terminal: false,
    })
}

impl Running {
    fn resize(&self, size: Option<(u16, u16)>) {
        if let (true, Some((rows, columns)), Some(terminal)) = (self.terminal, size, &self.stdin) {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(terminal, size); // a terminal that is gone has no size
        }
    }
}

/// Carries bytes between the socket and the command.
struct Relay {
    socket: UnixStream,
    signals: SignalFd,
    running: Running,
    /// Not taken by the command yet. While there is something, no more is read from the socket.
    to_command: VecDeque<u8>,
    stdin_ends: bool,
}

/// What woke the relay.
#[derive(Clone, Copy)]
enum Ready {
    Signal,
    Socket,
    Stdin,
    Stdout,
    Stderr,
}

impl Relay {
    fn run(mut self) -> ExitCode {
        for file in [&self.running.stdin, &self.running.stdout, &self.running.stderr].into_iter().flatten() {
            let _ = rustix::io::ioctl_fionbio(file, true);
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut code = None;
        loop {
            // Ended, and all that it wrote is read. A child of its own that keeps the pipe open is not waited for.
            if let Some(code) = code {
                self.output(Ready::Stdout, &mut buffer);
                self.output(Ready::Stderr, &mut buffer);
                let _ = frame::send(&self.socket, &FromProcess::Exited(code), &[]);
                return ExitCode::SUCCESS;
            }
            let Ok(ready) = self.wait() else { return ExitCode::FAILURE };
            for what in ready {
                match what {
                    Ready::Signal => code = self.ended(),
                    Ready::Stdin => self.feed(),
                    Ready::Stdout | Ready::Stderr => self.output(what, &mut buffer),
                    Ready::Socket => {
                        if !self.input() {
                            let _ = kill(self.running.pid, Signal::SIGKILL); // nobody listens any more
                            // While it is not reaped the container's PID namespace cannot end.
                            let _ = waitpid(self.running.pid, None);
                            return ExitCode::FAILURE;
                        }
                    }
                }
            }
        }
    }

    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut what = vec![Ready::Signal];
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.to_command.is_empty() {
            what.push(Ready::Socket);
            polled.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
        } else if let Some(stdin) = &self.running.stdin {
            what.push(Ready::Stdin);
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        for (file, which) in [(&self.running.stdout, Ready::Stdout), (&self.running.stderr, Ready::Stderr)] {
            if let Some(file) = file {
                what.push(which);
                polled.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let any = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        Ok(what.into_iter().zip(&polled).filter(|(_, fd)| any(fd)).map(|(what, _)| what).collect())
    }

    /// Takes one message; whether the session goes on.
    fn input(&mut self) -> bool {
        match frame::receive::<ToProcess>(&self.socket) {
            Ok((ToProcess::Stdin(bytes), _)) => {
                if self.running.stdin.is_some() {
                    self.to_command.extend(bytes);
                    self.feed();
                }
            }
            Ok((ToProcess::StdinClosed, _)) => {
                self.stdin_ends = true;
                self.feed();
            }
            Ok((ToProcess::Resize(rows, columns), _)) => self.running.resize(Some((rows, columns))),
            Ok((ToProcess::Signal(signal), _)) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    let _ = kill(self.running.pid, signal); // it may have ended just now
                }
            }
            Ok((ToProcess::Start(_), _)) | Err(_) => return false,
        }
        true
    }

    /// Writes what the command takes. A command that has closed its input takes nothing, ever.
    fn feed(&mut self) {
        while !self.to_command.is_empty() {
            let Some(stdin) = &mut self.running.stdin else { break };
            let (front, _) = self.to_command.as_slices();
            match stdin.write(front) {
                Ok(length) => drop(self.to_command.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.running.stdin = None,
            }
        }
        self.to_command.clear();
        if self.stdin_ends && !self.running.terminal {
            self.running.stdin = None;
        }
    }

    fn output(&mut self, which: Ready, buffer: &mut [u8]) {
        let is_stderr = matches!(which, Ready::Stderr);
        let end = if is_stderr { &mut self.running.stderr } else { &mut self.running.stdout };
        loop {
            let Some(file) = end else { return };
            match file.read(buffer) {
                Ok(0) => *end = None,
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                    let message = if is_stderr { FromProcess::Stderr(bytes) } else { FromProcess::Stdout(bytes) };
                    let _ = frame::send(&self.socket, &message, &[]); // the socket's end is seen where it is read
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => *end = None, // a terminal whose other end is closed gives EIO
            }
        }
    }

    fn ended(&self) -> Option<i32> {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.running.pid => return Some(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.running.pid => {
                    return Some(128 + signal as i32);
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
