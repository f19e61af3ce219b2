//! Grants of a service: each target once, modes and owners that exist.

use std::collections::BTreeMap;

use secretd_core::service::SecretGrant;
use secretd_proto::fs::{ParseTargetError, Target};
use secretd_proto::id::SecretId;
use secretd_proto::name::SecretName;

/// Linux' "no id" (chown(2)): no file can belong to it.
const NO_ID: u32 = u32::MAX;

/// Why grants are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidGrant {
    #[error("malformed secret reference, no target provided (--secret target=)")]
    NoTarget,
    #[error("{0} (--secret target=)")]
    Target(#[from] ParseTargetError),
    #[error("secret references '{first}' and '{second}' have a conflicting target: '{target}' (--secret target=)")]
    Conflict { first: SecretName, second: SecretName, target: String },
    #[error("invalid mode {mode:#o} of secret '{name}': it must be octal, at most 0777 (--secret mode=)")]
    Mode { name: SecretName, mode: u32 },
    #[error("invalid {what} of secret '{name}': there is no such id (--secret {what}=)")]
    Owner { name: SecretName, what: &'static str },
    #[error("{}", not_found(names))]
    NotFound { names: Vec<SecretName> },
    #[error("version {version} of secret '{name}' does not exist, its versions are 1 to {latest} (--secret version=)")]
    Version { name: SecretName, version: u64, latest: u64 },
}

fn not_found(names: &[SecretName]) -> String {
    let list: Vec<&str> = names.iter().map(SecretName::as_str).collect();
    let noun = if names.len() == 1 { "secret" } else { "secrets" };
    format!("{noun} not found: {} (--secret)", list.join(", "))
}

/// What is known of a secret that a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) latest: u64,
}

/// Checks all grants of a container; `lookup` knows secrets by id and name, which must both fit.
pub(crate) fn check(
    grants: &[SecretGrant],
    lookup: impl Fn(SecretId, &SecretName) -> Option<Known>,
) -> Result<(), InvalidGrant> {
    let mut by_path: BTreeMap<String, &SecretName> = BTreeMap::new();
    let mut missing = Vec::new();
    for grant in grants {
        check_form(grant)?;
        let path = Target::parse(&grant.target)?.path_in_container();
        if let Some((other, first)) = overlapping(&by_path, &path) {
            let target = if other.len() > path.len() { other.clone() } else { path };
            return Err(InvalidGrant::Conflict { first: (*first).clone(), second: grant.name.clone(), target });
        }
        by_path.insert(path, &grant.name);
        match (lookup(grant.secret, &grant.name), grant.pinned) {
            (None, _) => missing.push(grant.name.clone()),
            (Some(Known { latest }), Some(version)) if !(1..=latest).contains(&version.0) => {
                return Err(InvalidGrant::Version { name: grant.name.clone(), version: version.0, latest });
            }
            (Some(_), _) => {}
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(InvalidGrant::NotFound { names: missing }) }
}

fn check_form(grant: &SecretGrant) -> Result<(), InvalidGrant> {
    let name = || grant.name.clone();
    if grant.target.is_empty() {
        return Err(InvalidGrant::NoTarget);
    }
    if grant.mode > 0o777 {
        return Err(InvalidGrant::Mode { name: name(), mode: grant.mode });
    }
    for (id, what) in [(grant.uid, "uid"), (grant.gid, "gid")] {
        if id == NO_ID {
            return Err(InvalidGrant::Owner { name: name(), what });
        }
    }
    Ok(())
}

/// The path that is `path`, lies below it, or above it: a file cannot be a directory too.
fn overlapping<'a, T>(paths: &'a BTreeMap<String, T>, path: &str) -> Option<(&'a String, &'a T)> {
    paths.iter().find(|(other, _)| {
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        below(other, path) || below(path, other)
    })
}
