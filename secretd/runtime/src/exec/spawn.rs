//! secretd's side of a command: starts its process and joins it to two channels.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use camino::Utf8Path;
use secretd_core::seam::runtime::{ContainerError, ExecInput, ExecOutput, ExecSession, ExecSpec};
use secretd_proto::shim::{Failure, Step};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::message::{FromProcess, Start, ToProcess};
use crate::frames::{receive, send};
use crate::own_program::OwnProgram;

/// Messages that wait in each direction; the sender then waits too.
const CHANNEL: usize = 16;

/// Starts `secretd container-exec` for the container of `task_dir`, and answers once the command runs.
///
/// # Errors
/// When the process cannot be started, or it refuses: no such program, user or directory, or no running container.
pub async fn spawn(program: &OwnProgram, task_dir: &Utf8Path, spec: ExecSpec) -> Result<ExecSession, ContainerError> {
    let node = |error: std::io::Error| ContainerError::Node { step: "exec".to_owned(), reason: error.to_string() };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(node)?;
    ours.set_nonblocking(true).map_err(node)?;
    let mut child = tokio::process::Command::from(program.command())
        .args(["container-exec", "--task-dir", task_dir.as_str()])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(node)?;
    let (mut from, mut to) = UnixStream::from_std(ours).map_err(node)?.into_split();
    let interactive = spec.interactive;
    let start = Start {
        args: spec.args,
        env: spec.env,
        user: spec.user,
        workdir: spec.workdir,
        tty: spec.tty,
        size: spec.size,
    };
    send(&mut to, &ToProcess::Start(start)).await.map_err(node)?;
    match receive(&mut from).await {
        Ok(FromProcess::Started) => {}
        Ok(FromProcess::Refused(message)) => {
            let _ = child.wait().await; // it ends by itself
            return Err(Failure { step: Step::Command, message }.into());
        }
        Ok(_) | Err(_) => return Err(node(std::io::Error::other("the process of the command has ended"))),
    }
    if !interactive {
        let _ = send(&mut to, &ToProcess::StdinClosed).await; // a short command may have ended: its output is to come
    }
    let (input, inputs) = mpsc::channel(CHANNEL);
    let (outputs, output) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        // Both ends are owned here: when the caller drops the session, the socket closes and the process kills the command.
        let carry_in = carry_in(inputs, to);
        let carry_out = carry_out(from, outputs);
        tokio::select! {
            () = carry_in => {}
            () = carry_out => {}
        }
        let _ = child.wait().await; // its status is told over the socket
    });
    Ok(ExecSession { input, output })
}

/// Ends never by the caller's dropping the input alone: the command may still write.
async fn carry_in(mut inputs: mpsc::Receiver<ExecInput>, mut to: OwnedWriteHalf) {
    while let Some(input) = inputs.recv().await {
        let message = match input {
            ExecInput::Stdin(bytes) => ToProcess::Stdin(bytes),
            ExecInput::StdinClosed => ToProcess::StdinClosed,
            ExecInput::Resize(rows, columns) => ToProcess::Resize(rows, columns),
            ExecInput::Signal(signal) => ToProcess::Signal(signal),
        };
        if send(&mut to, &message).await.is_err() {
            break; // the command has ended: its last output is on the way
        }
    }
    std::future::pending::<()>().await;
}

async fn carry_out(mut from: OwnedReadHalf, outputs: mpsc::Sender<ExecOutput>) {
    loop {
        let message = tokio::select! {
            message = receive(&mut from) => message,
            () = outputs.closed() => return, // nobody listens: dropping the socket ends the command
        };
        let output = match message {
            Ok(FromProcess::Stdout(bytes)) => ExecOutput::Stdout(bytes),
            Ok(FromProcess::Stderr(bytes)) => ExecOutput::Stderr(bytes),
            Ok(FromProcess::Exited(code)) => ExecOutput::Exited(code),
            Ok(FromProcess::Started | FromProcess::Refused(_)) | Err(_) => return,
        };
        let last = matches!(output, ExecOutput::Exited(_));
        if outputs.send(output).await.is_err() || last {
            return;
        }
    }
}
