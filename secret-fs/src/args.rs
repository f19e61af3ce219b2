//! The command line: `secret-fs --listen-fd N --audit-fd M [--uid U --gid G] [--fill-files 1]`.

use std::ffi::OsString;

use crate::protection::{Identity, NOBODY};

/// What secretd hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Args {
    /// The listening socket.
    pub(crate) listen_fd: i32,
    /// The audit file, opened for appending.
    pub(crate) audit_fd: i32,
    /// Who to become.
    pub(crate) identity: Identity,
    /// Whether this node has no FUSE: files of memory filesystems are filled.
    pub(crate) fills_files: bool,
}

/// Why the command line was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("unknown option `{0}`")]
    Unknown(String),
    #[error("option `{0}` needs a number")]
    Number(&'static str),
    #[error("option `{0}` is given twice")]
    Twice(&'static str),
    #[error("option `{0}` is missing")]
    Missing(&'static str),
    #[error("--uid and --gid must not be 0 and must be given together")]
    Identity,
}

impl Args {
    /// Understands the arguments after the program's name.
    ///
    /// # Errors
    /// See [`UsageError`].
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut values = [None::<u32>; OPTIONS.len()];
        let mut arguments = arguments;
        while let Some(option) = arguments.next() {
            let Some(place) = OPTIONS.iter().position(|&known| option == known) else {
                return Err(UsageError::Unknown(option.to_string_lossy().chars().take(64).collect()));
            };
            let value = arguments.next().and_then(|value| value.to_str()?.parse().ok());
            let value = value.filter(|value| *value <= MAX).ok_or(UsageError::Number(OPTIONS[place]))?;
            if values[place].replace(value).is_some() {
                return Err(UsageError::Twice(OPTIONS[place]));
            }
        }
        let [listen_fd, audit_fd, uid, gid, fill_files] = values;
        let fd = |value: Option<u32>, place: usize| {
            value.and_then(|value| i32::try_from(value).ok()).ok_or(UsageError::Missing(OPTIONS[place]))
        };
        let identity = match (uid, gid) {
            (None, None) => NOBODY,
            (Some(uid), Some(gid)) if uid != 0 && gid != 0 => Identity { uid, gid },
            (Some(_) | None, Some(_) | None) => return Err(UsageError::Identity),
        };
        let fills_files = fill_files.is_some_and(|value| value != 0);
        Ok(Self { listen_fd: fd(listen_fd, 0)?, audit_fd: fd(audit_fd, 1)?, identity, fills_files })
    }
}

const OPTIONS: [&str; 5] = ["--listen-fd", "--audit-fd", "--uid", "--gid", "--fill-files"];

/// The largest descriptor, and below the user id that means none.
const MAX: u32 = i32::MAX.cast_unsigned();

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, UsageError> {
        Args::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn descriptors_and_identity_are_understood() {
        assert_eq!(
            parse("--listen-fd 3 --audit-fd 4 --uid 7 --gid 8"),
            Ok(Args { listen_fd: 3, audit_fd: 4, identity: Identity { uid: 7, gid: 8 }, fills_files: false })
        );
        assert_eq!(parse("--audit-fd 4 --listen-fd 3").map(|args| args.identity), Ok(NOBODY));
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, error) in [
            ("", UsageError::Missing("--listen-fd")),
            ("--listen-fd 3", UsageError::Missing("--audit-fd")),
            ("--listen-fd", UsageError::Number("--listen-fd")),
            ("--listen-fd x", UsageError::Number("--listen-fd")),
            ("--listen-fd -1", UsageError::Number("--listen-fd")),
            ("--listen-fd 3 --listen-fd 3", UsageError::Twice("--listen-fd")),
            ("--listen-fd 3 --audit-fd 4 --uid 7", UsageError::Identity),
            ("--listen-fd 3 --audit-fd 4 --uid 0 --gid 0", UsageError::Identity),
            ("--help", UsageError::Unknown("--help".into())),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }
}
