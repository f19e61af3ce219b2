//! The container of a service's tasks, but for what has a file of its own.

use std::net::IpAddr;

use secretd_core::service::ContainerSpec;

/// Why a container is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidContainer {
    #[error("invalid environment variable: '{0}' (--env takes NAME=VALUE)")]
    Env(String),
    #[error("invalid workdir {0}: it must be an absolute path (--workdir)")]
    Workdir(String),
    #[error(
        "invalid hostname {0}: it must have at most 63 characters out of letters, digits, `-` and `.` (--hostname)"
    )]
    Hostname(String),
    #[error("invalid host {0}: --host takes NAME:ADDRESS")]
    Host(String),
    #[error("invalid user {0}: --user takes NAME or UID, with :GROUP or :GID")]
    User(String),
    #[error("invalid group {0}: --group takes a name or a number")]
    Group(String),
    #[error("invalid oom score adj value {0}: it must be from -1000 to 1000 (--oom-score-adj)")]
    OomScoreAdj(i32),
    #[error("arguments must not contain NUL characters")]
    Nul,
}

/// Checks a container.
pub(crate) fn check(container: &ContainerSpec) -> Result<(), InvalidContainer> {
    for variable in &container.env {
        let name = variable.split_once('=').map(|(name, _)| name);
        if name.is_none_or(str::is_empty) || variable.contains('\0') {
            return Err(InvalidContainer::Env(variable.split('=').next().unwrap_or_default().to_owned()));
        }
    }
    if !container.workdir.is_empty() && (!container.workdir.starts_with('/') || container.workdir.contains('\0')) {
        return Err(InvalidContainer::Workdir(container.workdir.clone()));
    }
    if !container.hostname.is_empty() && !is_hostname(&container.hostname) {
        return Err(InvalidContainer::Hostname(container.hostname.clone()));
    }
    if let Some(host) = container.hosts.iter().find(|host| !is_host_line(host)) {
        return Err(InvalidContainer::Host(host.clone()));
    }
    if !container.user.is_empty() && !is_user(&container.user) {
        return Err(InvalidContainer::User(container.user.clone()));
    }
    if let Some(group) = container.groups.iter().find(|group| !is_account(group)) {
        return Err(InvalidContainer::Group(group.clone()));
    }
    if !(-1000..=1000).contains(&container.oom_score_adj) {
        return Err(InvalidContainer::OomScoreAdj(container.oom_score_adj));
    }
    match container.args.iter().chain(&container.entrypoint).any(|arg| arg.contains('\0')) {
        true => Err(InvalidContainer::Nul),
        false => Ok(()),
    }
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 63 && text.split('.').all(label)
}

/// `IP NAME…`, as in /etc/hosts.
fn is_host_line(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let address = words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok());
    let names: Vec<&str> = words.collect();
    address
        && !names.is_empty()
        && names.iter().all(|name| name.len() <= 253 && !name.contains(':'))
        && !line.contains('\n')
}

fn is_user(text: &str) -> bool {
    match text.split_once(':') {
        Some((user, group)) => is_account(user) && is_account(group),
        None => is_account(text),
    }
}

fn is_account(text: &str) -> bool {
    let number_fits =
        !text.bytes().all(|byte| byte.is_ascii_digit()) || text.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    !text.is_empty() && text.len() <= 255 && number_fits && !text.contains([':', '/', '\0', '\n', ' '])
}
