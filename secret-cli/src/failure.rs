//! Why a command failed: a stable code for scripts, an exit code, and one line for people.

use secretd_proto::code::{Class, Code, METADATA_KEY};
use tonic::{Code as Grpc, Status};

/// The exit code of wrong usage.
pub(crate) const USAGE: u8 = 2;

/// What a command prints when it fails, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// Of the process.
    pub(crate) exit: u8,
    /// Stable; one of [`Code`]'s texts, `usage` or `unreachable`.
    pub(crate) code: String,
    /// What, why and what to do.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with a code of the API.
    pub(crate) fn new(code: Code, message: impl std::fmt::Display) -> Self {
        Self { exit: code.class().exit_code(), code: code.as_str().to_owned(), message: one_line(&message.to_string()) }
    }

    /// What `sctl` itself refuses or cannot do.
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        Self { code: "failed".to_owned(), ..Self::new(Code::Internal, message) }
    }

    /// A value that breaks a rule, found before anything was sent.
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// A command line that is wrong.
    pub(crate) fn usage(message: impl std::fmt::Display) -> Self {
        Self { exit: USAGE, code: "usage".to_owned(), message: one_line(&message.to_string()) }
    }

    /// The daemon cannot be reached.
    pub(crate) fn unreachable(message: impl std::fmt::Display) -> Self {
        Self {
            exit: Class::Unreachable.exit_code(),
            code: "unreachable".to_owned(),
            message: one_line(&message.to_string()),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = status.metadata().get(METADATA_KEY).and_then(|value| value.to_str().ok()).and_then(Code::parse);
        let message = status.message();
        match code {
            Some(code) => Self::new(code, message),
            // Without our code it did not come from a handler: the connection broke, or the daemon is another release.
            None if status.code() == Grpc::Unimplemented => {
                Self::failed(format!("this secretd does not know the command ({message}): is it an older release?"))
            }
            None if status.code() == Grpc::PermissionDenied => Self::new(Code::PermissionDenied, message),
            None => Self::unreachable(format!("secretd ended the connection: {message}; is secretd running?")),
        }
    }
}

/// One line without control characters: what an archive or a registry holds must not steer the terminal.
fn one_line(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    line.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    fn status(code: Code) -> Status {
        let mut status = Status::failed_precondition("no\nmore");
        status.metadata_mut().insert(METADATA_KEY, MetadataValue::from_static(code.as_str()));
        status
    }

    #[test]
    fn codes_of_the_api_become_exit_codes_and_one_line() {
        let table = [
            (Code::InvalidArgument, 1),
            (Code::NoQuorum, 3),
            (Code::NameConflict, 4),
            (Code::InUse, 4),
            (Code::NotFound, 5),
        ];
        for (code, exit) in table {
            let failure = Failure::from(status(code));
            assert_eq!(
                (failure.exit, failure.code.as_str(), failure.message.as_str()),
                (exit, code.as_str(), "no more")
            );
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(Failure::failed("a\u{1b}[2Jb\r\nc").message, "a\u{fffd}[2Jb c");
    }

    #[test]
    fn status_without_our_code_is_a_lost_connection() {
        assert_eq!(Failure::from(Status::unknown("broken pipe")).exit, 3);
    }
}
