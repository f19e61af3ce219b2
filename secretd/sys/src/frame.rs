//! Frames on the local sockets between our own processes: unix(7) stream sockets, blocking.
//!
//! A frame is a little-endian `u32` length, then that many bytes of postcard. Descriptors (SCM_RIGHTS) travel with the
//! first byte of the frame that names them. Buffers are wiped, because frames carry ciphertext and wrapped keys, and
//! because a habit without exceptions needs no thought.
//!
//! Deliberately absent: timeouts and any non-blocking form (a caller that must not block uses a thread, or sets
//! SO_RCVTIMEO and gets [`ReceiveError::Socket`]).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The most descriptors that one frame may carry.
pub const MAX_DESCRIPTORS: usize = 8;

/// The largest frame, in bytes without its length: `secretd_proto::limit::MAX_FRAME_LENGTH`, which this leaf crate
/// cannot name.
pub const MAX_LENGTH: usize = 4 * 1024 * 1024;

/// Why a frame could not be sent. After any of these but [`SendError::TooLong`], [`SendError::TooManyDescriptors`] and
/// [`SendError::Encode`] the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent.
    #[error("a frame of {0} bytes is over the limit of {MAX_LENGTH}")]
    TooLong(usize),
    /// Nothing was sent.
    #[error("{0} descriptors are over the limit of {MAX_DESCRIPTORS} in a frame")]
    TooManyDescriptors(usize),
    /// Nothing was sent: the message has no encoding.
    #[error("the message cannot be encoded")]
    Encode(#[source] postcard::Error),
    /// The other end is gone, or the socket does not work.
    #[error("the socket does not take the frame")]
    Socket(#[source] io::Error),
}

/// Why no frame was received. After any of these but [`ReceiveError::Decode`] the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other end closed the connection between two frames: the normal end.
    #[error("the other end closed the connection")]
    Closed,
    /// The other end closed the connection within a frame.
    #[error("the connection ended within a frame")]
    Partial,
    /// The length that the frame announces is not allowed; nothing was allocated for it.
    #[error("a frame of {0} bytes is over the limit of {MAX_LENGTH}")]
    TooLong(usize),
    /// More descriptors came than a frame may carry; those that arrived are closed.
    #[error("more than {MAX_DESCRIPTORS} descriptors came with a frame")]
    TooManyDescriptors,
    /// The frame is complete but is not a message of this type; its descriptors are closed.
    #[error("the frame is not a message of the expected type")]
    Decode(#[source] postcard::Error),
    /// The socket does not work.
    #[error("the socket gives no frame")]
    Socket(#[source] io::Error),
}

/// Sends one message and the descriptors that belong to it; blocks until the socket has taken all of it.
///
/// # Errors
/// See [`SendError`]; SIGPIPE is never raised.
pub fn send<T: Serialize>(socket: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), SendError> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(SendError::TooManyDescriptors(fds.len()));
    }
    // Measured first, so that the buffer never moves and leaves no copy behind.
    let length = postcard::experimental::serialized_size(message).map_err(SendError::Encode)?;
    let header = u32::try_from(length).ok().filter(|_| length <= MAX_LENGTH).ok_or(SendError::TooLong(length))?;
    let mut frame = Zeroizing::new(vec![0; HEADER + length]);
    frame[..HEADER].copy_from_slice(&header.to_le_bytes());
    postcard::to_slice(message, &mut frame[HEADER..]).map_err(SendError::Encode)?;

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(SendError::TooManyDescriptors(fds.len()));
    }
    let mut sent = 0;
    while sent < frame.len() {
        let rest = [IoSlice::new(&frame[sent..])];
        match rustix::net::sendmsg(socket, &rest, &mut control, SendFlags::NOSIGNAL) {
            Ok(0) => return Err(SendError::Socket(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                sent += count;
                control.clear(); // the descriptors went with the first byte
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(source) => return Err(SendError::Socket(source.into())),
        }
    }
    Ok(())
}

/// Receives one message and the descriptors that came with its first byte, each closed on exec; blocks until there is
/// one.
///
/// # Errors
/// See [`ReceiveError`].
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> Result<(T, Vec<OwnedFd>), ReceiveError> {
    let mut fds = Vec::new();
    let mut header = [0; HEADER];
    match fill(socket, &mut header, Some(&mut fds))? {
        0 => return Err(ReceiveError::Closed),
        HEADER => {}
        _ => return Err(ReceiveError::Partial),
    }
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_LENGTH {
        return Err(ReceiveError::TooLong(length));
    }
    let mut frame = Zeroizing::new(vec![0; length]);
    if fill(socket, &mut frame, None)? != length {
        return Err(ReceiveError::Partial);
    }
    match postcard::take_from_bytes(&frame) {
        Ok((message, [])) => Ok((message, fds)),
        Ok((_, _)) => Err(ReceiveError::Decode(postcard::Error::SerdeDeCustom)),
        Err(source) => Err(ReceiveError::Decode(source)),
    }
}

const HEADER: usize = 4;

/// Reads until `buffer` is full or the stream ends; gives the count of bytes. Descriptors that come where none are
/// expected are closed by the kernel, as no room is offered for them.
fn fill(socket: &UnixStream, buffer: &mut [u8], mut fds: Option<&mut Vec<OwnedFd>>) -> Result<usize, ReceiveError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let room = if fds.is_some() { space.len() } else { 0 };
        let mut control = RecvAncillaryBuffer::new(&mut space[..room]);
        let mut rest = [IoSliceMut::new(&mut buffer[filled..])];
        let received: RecvMsg = match rustix::net::recvmsg(socket, &mut rest, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => continue,
            Err(source) => return Err(ReceiveError::Socket(source.into())),
        };
        if let Some(fds) = fds.as_deref_mut() {
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(arrived) = message {
                    fds.extend(arrived);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) {
                return Err(ReceiveError::TooManyDescriptors);
            }
        }
        if received.bytes == 0 {
            break;
        }
        filled += received.bytes;
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn message_arrives_with_its_descriptors_closed_on_exec() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"through the socket").unwrap();
        let message = (7_u32, vec![1_u8; 300_000], "name".to_owned());
        let sent = message.clone();
        let sender = std::thread::Builder::new()
            .name("sender".into())
            .spawn(move || send(&left, &sent, &[file.as_fd(), file.as_fd()]))
            .unwrap();

        let (received, fds): ((u32, Vec<u8>, String), _) = receive(&right).unwrap();

        sender.join().unwrap().unwrap();
        assert_eq!(received, message);
        assert_eq!(fds.len(), 2);
        assert!(rustix::io::fcntl_getfd(&fds[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let mut text = String::new();
        let mut arrived = File::from(fds.into_iter().next().unwrap());
        arrived.rewind().unwrap();
        arrived.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the socket");
    }

    #[test]
    fn descriptors_stay_with_the_frame_that_names_them() {
        let (left, right) = UnixStream::pair().unwrap();
        send(&left, &1_u8, &[]).unwrap();
        send(&left, &2_u8, &[left.as_fd()]).unwrap();
        send(&left, &3_u8, &[]).unwrap();

        let counts = [(); 3].map(|()| receive::<u8>(&right).map(|(value, fds)| (value, fds.len())).unwrap());

        assert_eq!(counts, [(1, 0), (2, 1), (3, 0)]);
    }

    #[test]
    fn end_between_frames_is_told_from_end_within_one() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert!(matches!(receive::<u8>(&right), Err(ReceiveError::Closed)));

        for part in [&[9_u8, 0][..], &[9, 0, 0, 0], &[9, 0, 0, 0, 1, 2, 3]] {
            let (mut left, right) = UnixStream::pair().unwrap();
            left.write_all(part).unwrap();
            drop(left);
            assert!(matches!(receive::<Vec<u8>>(&right), Err(ReceiveError::Partial)), "{part:?}");
        }
    }

    #[test]
    fn length_over_the_limit_is_refused_by_both_ends() {
        let (mut left, right) = UnixStream::pair().unwrap();
        assert!(matches!(send(&left, &vec![0_u8; MAX_LENGTH], &[]), Err(SendError::TooLong(_))));
        left.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(receive::<u8>(&right), Err(ReceiveError::TooLong(_))));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for frame in [&[1_u8, 0, 0, 0, 2][..], &[2, 0, 0, 0, 1, 1], &[0, 0, 0, 0]] {
            let (mut left, right) = UnixStream::pair().unwrap();
            left.write_all(frame).unwrap();
            assert!(matches!(receive::<bool>(&right), Err(ReceiveError::Decode(_))), "{frame:?}");
        }
    }

    #[test]
    fn too_many_descriptors_are_refused_by_the_sender() {
        let (left, _right) = UnixStream::pair().unwrap();
        let fds = [left.as_fd(); MAX_DESCRIPTORS + 1];
        assert!(matches!(send(&left, &1_u8, &fds), Err(SendError::TooManyDescriptors(9))));
    }
}
