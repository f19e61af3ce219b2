//! What secretd and the process of one command say to each other, framed as on every local socket.

use serde::{Deserialize, Serialize};

/// To the process. The first is [`ToProcess::Start`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToProcess {
    Start(Start),
    Stdin(Vec<u8>),
    StdinClosed,
    Resize(u16, u16),
    Signal(i32),
}

/// The command. Its environment may hold secrets, so it comes over the socket and is in no argument.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) user: String,
    pub(super) workdir: String,
    pub(super) tty: bool,
    pub(super) size: Option<(u16, u16)>,
}

/// From the process. The first is [`FromProcess::Started`] or [`FromProcess::Refused`], the last
/// [`FromProcess::Exited`] or [`FromProcess::Refused`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromProcess {
    Started,
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exited(i32),
    Refused(String),
}
