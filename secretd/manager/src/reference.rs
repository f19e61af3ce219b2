//! What a user's reference means: a full id, else an exact name, else a prefix of one id only.

use std::fmt::Display;

use secretd_proto::code::Code;

use crate::refusal::Refusal;

/// The kinds of objects that references name, with Docker's words for what is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A secret.
    Secret,
    /// A service.
    Service,
    /// A task.
    Task,
    /// A node.
    Node,
}

impl Kind {
    /// The word of messages and events.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Service => "service",
            Self::Task => "task",
            Self::Node => "node",
        }
    }

    /// That no object of this kind has this reference.
    pub(crate) fn not_found(self, reference: &str) -> Refusal {
        let message = match self {
            Self::Service => format!("no such service: {reference}"),
            Self::Task => format!("no such task: {reference}"),
            Self::Secret | Self::Node => format!("{} {reference} not found", self.word()),
        };
        Refusal::new(Code::NotFound, message)
    }
}

/// The one candidate that `reference` means. A candidate is an id, a name and whatever the caller wants back.
///
/// # Errors
/// When none matches, or more than one.
pub(crate) fn resolve<I, N, T>(
    kind: Kind,
    reference: &str,
    candidates: impl Iterator<Item = (I, N, T)>,
) -> Result<T, Refusal>
where
    I: Display,
    N: AsRef<str>,
{
    if reference.is_empty() {
        return Err(Refusal::invalid(format!("the reference of a {} is empty: give its id or name", kind.word())));
    }
    let (mut by_name, mut by_prefix) = (Vec::new(), Vec::new());
    for (id, name, value) in candidates {
        let id = id.to_string();
        if id == reference {
            return Ok(value);
        }
        if name.as_ref() == reference {
            by_name.push(value);
        } else if id.starts_with(reference) {
            by_prefix.push(value);
        }
    }
    let mut matches = if by_name.is_empty() { by_prefix } else { by_name };
    match (matches.pop(), matches.len()) {
        (None, _) => Err(kind.not_found(reference)),
        (Some(only), 0) => Ok(only),
        (Some(_), others) => Err(Refusal::new(
            Code::Ambiguous,
            format!("{} {reference} is ambiguous ({} matches found)", kind.word(), others + 1),
        )),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(reference: &str, expected: &Expect) {
        let candidates =
            [("abc1", "web", 1), ("abd2", "db", 2), ("web3", "cache", 3), ("abx4", "twin", 4), ("q5", "twin", 5)];
        let result = resolve(Kind::Service, reference, candidates.into_iter());
        let shown = match result {
            Ok(value) => value.to_string(),
            Err(refusal) => format!("{}: {refusal}", refusal.code.as_str()),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn full_id_comes_before_name_and_name_before_prefix() {
        check("abc1", &expect!["1"]);
        check("web", &expect!["1"]);
        check("we", &expect!["3"]);
        check("abd", &expect!["2"]);
    }

    #[test]
    fn what_is_not_there_or_not_unique_is_refused() {
        check("ab", &expect!["ambiguous: service ab is ambiguous (3 matches found)"]);
        check("twin", &expect!["ambiguous: service twin is ambiguous (2 matches found)"]);
        check("zzz", &expect!["not-found: no such service: zzz"]);
        check("", &expect!["invalid-argument: the reference of a service is empty: give its id or name"]);
    }
}
