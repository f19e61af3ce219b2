//! One server on a socket in a directory of its own, and `sctl` as a user runs it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::v1::control_server::ControlServer;
use secretd_proto::v1::local_server::LocalServer;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::fake::{Asked, Fake};

/// A server that runs for as long as this lives.
pub(crate) struct Node {
    directory: TempDir,
    asked: Arc<Mutex<Asked>>,
    _runtime: Runtime,
}

/// What a command said, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Node {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Asked::default()));
        let runtime = Runtime::new().unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(directory.path().join("control.sock")).unwrap()
        };
        let fake = Fake::new(Arc::clone(&asked));
        let server =
            Server::builder().add_service(ControlServer::new(fake.clone())).add_service(LocalServer::new(fake));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { directory, asked, _runtime: runtime }
    }

    /// Runs `sctl` against this server.
    pub(crate) fn sctl(&self, arguments: &[&str], stdin: &[u8]) -> Answer {
        let host = format!("unix://{}/control.sock", self.directory.path().display());
        sctl(&host, arguments, stdin)
    }

    /// What was asked so far.
    pub(crate) fn asked<T>(&self, look: impl FnOnce(&Asked) -> T) -> T {
        look(&self.asked.lock())
    }
}

/// Runs `sctl` against a host.
pub(crate) fn sctl(host: &str, arguments: &[&str], stdin: &[u8]) -> Answer {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sctl"))
        .env("SCTL_HOST", host)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let _ = pipe.write_all(stdin); // a command that refuses does not read to the end
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An answer of these parts.
pub(crate) fn answer(code: i32, stdout: &str, stderr: &str) -> Answer {
    Answer { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}
