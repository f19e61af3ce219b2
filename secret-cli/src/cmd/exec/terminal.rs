//! The caller's terminal: its size, and raw mode for as long as a command has it.

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use secretd_proto::v1::TerminalSize;

use crate::failure::Failure;

/// Raw mode; dropped, the terminal is as before.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Lets keys through as they are: no echo, no lines, no signals.
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("cannot set the terminal to raw mode: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whether standard input is a terminal.
pub(super) fn is_terminal() -> bool {
    isatty(std::io::stdin())
}

/// The size of the caller's terminal, where there is one.
pub(super) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(std::io::stdin()).or_else(|_| tcgetwinsize(std::io::stdout())).ok()?;
    Some(TerminalSize { rows: u32::from(size.ws_row), columns: u32::from(size.ws_col) })
}
