//! What is read from standard input, other than payloads.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Longer lines are none of ours.
const LONGEST: u16 = 4096;

/// The first line of standard input.
///
/// # Errors
/// When there is none.
pub(crate) fn line(what: &str) -> Result<Zeroizing<String>, Failure> {
    // As much room as it may need: growing would leave copies behind.
    let mut line = Zeroizing::new(String::with_capacity(usize::from(LONGEST)));
    let read = io::BufReader::new(io::stdin().lock().take(LONGEST.into())).read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("cannot read {what} from standard input: {error}")))?;
    let trimmed = Zeroizing::new(line.trim().to_owned());
    if trimmed.is_empty() {
        return Err(Failure::invalid(format!("standard input is empty: give {what} on it")));
    }
    Ok(trimmed)
}

/// The same, asked for and not shown where a person types it.
///
/// # Errors
/// When there is none.
pub(crate) fn hidden_line(prompt: &str, what: &str) -> Result<Zeroizing<String>, Failure> {
    if !io::stdin().is_terminal() {
        return line(what);
    }
    let _ = write!(io::stderr(), "{prompt}");
    let read = {
        let _hidden = Hidden::begin();
        line(what)
    };
    let _ = writeln!(io::stderr());
    read
}

/// A terminal that does not show what is typed, as long as this lives.
struct Hidden(Option<Termios>);

impl Hidden {
    fn begin() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut hidden = before.clone();
            hidden.local_modes -= LocalModes::ECHO;
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &hidden); // it is shown, then
        }
        Self(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}
