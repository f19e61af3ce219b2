//! The loopback device of a new network namespace, which begins down: rtnetlink(7).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use secretd_sys::child;

/// "Set the flags of device 1, which is the loopback device, to up": a `nlmsghdr` and an `ifinfomsg`.
const UP: [u32; 8] = [32, pair(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK), 1, 0, 0, 1, IFF_UP, IFF_UP];

/// linux/netlink.h, linux/rtnetlink.h, linux/if.h.
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;

/// Two 16-bit fields that follow each other in memory.
const fn pair(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// Brings the loopback device up in the network namespace of a container that is not started yet.
pub(super) fn bring_up(pid: i32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // This process stays in the node's network: a child enters the container's.
    let answer = child::in_child(|| match enter_and_ask(&namespace) {
        Ok(()) => 0,
        Err(error) => u8::try_from(error as i32).unwrap_or(u8::MAX),
    });
    match answer.map_err(io::Error::other)? {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number.into())),
    }
}

fn enter_and_ask(namespace: &File) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let request: Vec<u8> = UP.iter().flat_map(|word| word.to_ne_bytes()).collect();
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 64];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // After the header of an answer comes its error, negative, or 0.
    let [.., a, b, c, d] = answer[..20] else { return Err(nix::Error::EBADMSG) };
    match i32::from_ne_bytes([a, b, c, d]) {
        0 => Ok(()),
        error => Err(nix::Error::from_raw(-error)),
    }
}
