//! What goes to a command: standard input, signals, and sizes of the terminal.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use secretd_proto::v1::ExecInput;
use secretd_proto::v1::exec_input::Input;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::terminal;
use crate::failure::Failure;

const PIECE: usize = 32 * 1024;
/// Messages that wait for the connection.
const WAITING: usize = 8;

pub(super) type Sender = mpsc::Sender<ExecInput>;

/// The way of messages to the call.
pub(super) fn channel() -> (Sender, mpsc::Receiver<ExecInput>) {
    mpsc::channel(WAITING)
}

/// Sends a message; when the call has ended, what it said is what counts.
pub(super) async fn send(sender: &Sender, input: Input) {
    let _ = sender.send(ExecInput { input: Some(input) }).await;
}

/// Forwards until the process ends; it only comes back when it cannot begin.
pub(super) async fn forward(sender: Sender, interactive: bool, tty: bool) -> Failure {
    match try_forward(&sender, interactive, tty).await {
        Ok(never) => match never {},
        Err(error) => Failure::failed(format!("cannot forward input: {error}")),
    }
}

async fn try_forward(sender: &Sender, interactive: bool, tty: bool) -> io::Result<Infallible> {
    if interactive {
        let (stdin, sender) = (File::from(io::stdin().as_fd().try_clone_to_owned()?), sender.clone());
        // A thread of its own, which a read that never ends does not keep from ending with the process.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || read(stdin, &sender))?;
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut resize = signal(SignalKind::window_change())?;
    loop {
        // Every arm is cancel-safe: a signal that is not taken is taken in the next turn.
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
            _ = quit.recv() => SignalKind::quit(),
            _ = resize.recv() => SignalKind::window_change(),
        };
        if kind != SignalKind::window_change() {
            send(sender, Input::Signal(kind.as_raw_value().unsigned_abs())).await;
        } else if let Some(size) = terminal::size().filter(|_| tty) {
            send(sender, Input::Resize(size)).await;
        }
    }
}

fn read(mut stdin: File, sender: &Sender) {
    loop {
        let mut piece = vec![0; PIECE];
        let input = match stdin.read(&mut piece) {
            Ok(length) if length > 0 => {
                piece.truncate(length);
                Input::Stdin(piece)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => Input::StdinClosed(true),
        };
        let is_last = matches!(input, Input::StdinClosed(_));
        if sender.blocking_send(ExecInput { input: Some(input) }).is_err() || is_last {
            return;
        }
    }
}
