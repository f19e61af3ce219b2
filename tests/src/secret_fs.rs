//! What secret-fs of a node holds, asked for as secretd asks.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use secretd_proto::fs::{PROTOCOL, Request, Response, Status};
use secretd_sys::frame;

use crate::command::run;
use crate::node::{Node, binary};

/// What is published on the node, and how many bytes of plaintext there are. Asked by a process of the node's own
/// namespaces: secret-fs speaks to nobody of whom it does not see who it is.
pub fn held(node: &Node) -> Result<Status> {
    let mut command = node.sandbox().command(&binary("held").to_string_lossy());
    let answer = run(command.arg(node.run_dir().join("secret-fs.sock")), b"")?;
    ensure!(answer.status.success(), "{answer:?}");
    Ok(serde_json::from_str(&answer.stdout)?)
}

/// Asks the secret-fs behind a socket.
pub fn ask(socket: &Path) -> Result<Status> {
    let socket = UnixStream::connect(socket).context("secret-fs")?;
    exchange(&socket, &Request::Hello { protocol: PROTOCOL })?;
    let answer = exchange(&socket, &Request::Status)?;
    let Response::Status(status) = answer else { bail!("secret-fs has answered {answer:?}") };
    Ok(status)
}

fn exchange(socket: &UnixStream, request: &Request) -> Result<Response> {
    frame::send(socket, request, &[])?;
    let (response, _) = frame::receive(socket)?;
    Ok(response)
}
