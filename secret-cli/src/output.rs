//! The only place that writes to standard output and standard error.
//!
//! A reader that has seen enough closes the pipe (`sctl service logs | head`): that ends the command quietly.

use std::io::{self, IsTerminal, Write};

use serde_json::json;

use crate::failure::Failure;

/// Writes bytes to standard output and flushes them.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(bytes).and_then(|()| stdout.flush()), "standard output")
}

/// Writes bytes to standard error.
pub(crate) fn error_bytes(bytes: &[u8]) -> Result<(), Failure> {
    written(io::stderr().lock().write_all(bytes), "standard error")
}

/// Writes a line of progress or a warning to standard error. Nobody depends on it: a failure to write it is none.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether a person watches standard error, where progress goes.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Writes a failure to standard error.
pub(crate) fn failure(failure: &Failure, as_json: bool) {
    let Failure { code, message, .. } = failure;
    if message.is_empty() {
        return;
    }
    let _ = if as_json {
        writeln!(io::stderr(), "{}", json!({ "error": { "code": code, "message": message } }))
    } else {
        writeln!(io::stderr(), "sctl: {message}")
    };
}

fn written(result: io::Result<()>, what: &str) -> Result<(), Failure> {
    result.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: 0, code: String::new(), message: String::new() };
        }
        Failure::failed(format!("cannot write to {what}: {error}"))
    })
}
