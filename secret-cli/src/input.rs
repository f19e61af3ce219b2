//! What is read from standard input, other than payloads.

use std::io::{self, BufRead, Read};

use crate::failure::Failure;

/// Longer lines are none of ours.
const LONGEST: u64 = 4096;

/// The first line of standard input.
///
/// # Errors
/// When there is none.
pub(crate) fn line(what: &str) -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::BufReader::new(io::stdin().lock().take(LONGEST)).read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("cannot read {what} from standard input: {error}")))?;
    let line = line.trim();
    if line.is_empty() {
        return Err(Failure::invalid(format!("standard input is empty: give {what} on it")));
    }
    Ok(line.to_owned())
}
