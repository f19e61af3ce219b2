//! What single values of the configuration must be. Each check gives the fault, with the key's name and the way out.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;
use nix::unistd::Group;
use tracing_subscriber::EnvFilter;

use super::LogFormat;

const SMALLEST_AUDIT_FILE: u64 = 4096;
const MOST_AUDIT_FILES: usize = 10_000;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

pub(super) fn cgroup_parent(path: &str) -> Option<String> {
    let good = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    (!good).then(|| format!("cgroup-parent `{path}`: give an absolute path without `..`"))
}

pub(super) fn audit(max_size: u64, max_files: usize) -> Vec<String> {
    let mut faults = Vec::new();
    if max_size < SMALLEST_AUDIT_FILE {
        faults.push(format!("audit.max-size `{max_size}`: give at least {SMALLEST_AUDIT_FILE} bytes"));
    }
    if !(1..=MOST_AUDIT_FILES).contains(&max_files) {
        faults.push(format!("audit.max-files `{max_files}`: give a number from 1 to {MOST_AUDIT_FILES}"));
    }
    faults
}

/// A bare word that is no level would be the name of a target, and silence everything else.
pub(super) fn log_level(filter: &str) -> Option<String> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let good = filter.split(',').all(|part| is_level(part.trim()) || part.contains('='));
    let good = good && filter.parse::<EnvFilter>().is_ok();
    (!good).then(|| format!("log-level `{filter}`: give one of {}, or TARGET=LEVEL,...", LEVELS.join(", ")))
}

pub(super) fn log_format(format: Option<&str>) -> Result<LogFormat, String> {
    match format {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(format!("log-format `{other}`: give text or json")),
    }
}

pub(super) fn group(name: &str) -> Option<String> {
    let found = Group::from_name(name).is_ok_and(|group| group.is_some());
    (!found).then(|| format!("group `{name}`: there is none: make it with `groupadd --system {name}`"))
}

pub(super) fn program(path: &Utf8Path) -> Option<String> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("secret-fs `{path}`: it is no program that can be run")),
        Err(error) => Some(format!("secret-fs `{path}`: {error}")),
    }
}

/// Adds a label that a flag gives.
pub(super) fn label(text: &str, labels: &mut BTreeMap<String, String>) -> Option<String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            labels.insert(key.to_owned(), value.to_owned());
            None
        }
        Some(_) | None => Some(format!("label `{text}`: give KEY=VALUE")),
    }
}
