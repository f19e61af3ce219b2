//! Questions to a shim, each on a connection of its own.

use std::io;

use camino::Utf8Path;
use secretd_proto::shim::{Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::frames;

/// One question and its answer.
pub(crate) async fn ask(socket: &Utf8Path, request: &Request) -> io::Result<Response> {
    let mut stream = UnixStream::connect(socket).await?;
    frames::send(&mut stream, request).await?;
    frames::receive(&mut stream).await
}

/// Deletes the container and waits until the shim has ended, with it its mounts. A shim that is gone already is fine.
pub(super) async fn delete(socket: &Utf8Path) {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return };
    if frames::send(&mut stream, &Request::Delete).await.is_err() {
        return;
    }
    if let Ok(Response::Failed(failure)) = frames::receive(&mut stream).await {
        tracing::warn!(%failure, "a container could not be deleted by its shim");
        return;
    }
    while let Ok(1..) = stream.read(&mut [0]).await {}
}
