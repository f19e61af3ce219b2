//! Commands that take several names go on past a failure, and say each.

use super::Context;
use crate::failure::Failure;
use crate::output;

/// How the parts of a command have ended so far.
#[derive(Debug)]
pub(crate) struct Outcomes {
    as_json: bool,
    exits: Vec<u8>,
}

impl Outcomes {
    pub(crate) fn new(context: &Context) -> Self {
        Self { as_json: context.errors_as_json(), exits: vec![] }
    }

    /// The value of one part; a failure is told at once.
    pub(crate) fn take<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                output::failure(&failure, self.as_json);
                self.exits.push(failure.exit);
                None
            }
        }
    }

    /// The exit code of the whole: that of the failures where they agree, else 1.
    pub(crate) fn exit(&self) -> u8 {
        match self.exits.as_slice() {
            [] => 0,
            [first, rest @ ..] if rest.iter().all(|exit| exit == first) => *first,
            _ => 1,
        }
    }
}
