//! One connection to secret-fs.

use std::io::{self, ErrorKind};

use camino::Utf8Path;
use secretd_proto::fs::{PROTOCOL, Refusal, Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::frames;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// No socket, or nobody at it.
    #[error("secret-fs is not running")]
    Nobody,
    /// It speaks another protocol: its process.
    #[error("secret-fs speaks another protocol: install the one of the same release")]
    OtherRelease(i32),
    /// Anything else, which passes or is reported.
    #[error("secret-fs cannot be spoken to: {0}")]
    Socket(#[from] io::Error),
}

/// A connection on which both ends have said hello.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// The key to which grants of this run are wrapped.
    pub(super) public_key: [u8; 32],
}

impl Connection {
    /// Connects.
    pub(super) async fn open(socket: &Utf8Path) -> Result<Self, OpenError> {
        let nobody = |error: &io::Error| [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind());
        let mut stream = UnixStream::connect(socket)
            .await
            .map_err(|error| if nobody(&error) { OpenError::Nobody } else { OpenError::Socket(error) })?;
        let process = stream.peer_cred()?.pid().ok_or_else(|| io::Error::other("the peer has no process"))?;
        frames::send(&mut stream, &Request::Hello { protocol: PROTOCOL }).await?;
        match frames::receive(&mut stream).await? {
            Response::Hello { protocol: PROTOCOL, public_key } => Ok(Self { stream, public_key }),
            Response::Refused(Refusal::Protocol(_)) | Response::Hello { .. } => Err(OpenError::OtherRelease(process)),
            Response::Refused(refusal) => Err(OpenError::Socket(io::Error::other(refusal))),
            Response::Done | Response::Changed { .. } | Response::Status(_) => {
                Err(OpenError::Socket(io::Error::other("it gave an answer that does not fit the question")))
            }
        }
    }

    /// One request and its answer.
    pub(super) async fn ask(&mut self, request: &Request) -> io::Result<Response> {
        frames::send(&mut self.stream, request).await?;
        frames::receive(&mut self.stream).await
    }

    /// Waits until the other end is gone. It says nothing unasked.
    pub(super) async fn until_closed(mut self) {
        while let Ok(1..) = self.stream.read(&mut [0]).await {}
    }
}
