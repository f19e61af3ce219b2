//! Frames of the local sockets for asynchronous code: a little-endian `u32` length, then that many bytes of postcard.
//! Descriptors travel only on blocking sockets (`secretd_sys::frame`).

use std::io;

use secretd_proto::limit::MAX_FRAME_LENGTH;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Sends one message. A call that is cancelled may have sent a part: the connection is of no use then.
pub(crate) async fn send<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    frame = postcard::to_extend(message, frame).map_err(io::Error::other)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME_LENGTH {
        return Err(io::Error::other(format!("a message of {length} bytes: at most {MAX_FRAME_LENGTH} can be sent")));
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    if let Some(header) = frame.get_mut(..4) {
        header.copy_from_slice(&length.to_le_bytes());
    }
    to.write_all(&frame).await
}

/// Receives one message. A call that is cancelled may have taken a part: the connection is of no use then.
pub(crate) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = usize::try_from(from.read_u32_le().await?).map_err(io::Error::other)?;
    if length > MAX_FRAME_LENGTH {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    postcard::from_bytes(&body).map_err(io::Error::other)
}
