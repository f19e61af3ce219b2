//! One connection to secret-fs.

use std::io;

use camino::Utf8Path;
use secretd_proto::fs::{PROTOCOL, Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::frames;

/// A connection on which both ends have said hello.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// The key to which grants of this run are wrapped.
    pub(super) public_key: [u8; 32],
}

impl Connection {
    /// Connects.
    pub(super) async fn open(socket: &Utf8Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket).await?;
        frames::send(&mut stream, &Request::Hello { protocol: PROTOCOL }).await?;
        match frames::receive(&mut stream).await? {
            Response::Hello { protocol: PROTOCOL, public_key } => Ok(Self { stream, public_key }),
            Response::Refused(refusal) => Err(io::Error::other(refusal)),
            Response::Hello { .. } | Response::Done | Response::Changed { .. } | Response::Status(_) => {
                Err(io::Error::other("secret-fs speaks another protocol: install the one of the same release"))
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
