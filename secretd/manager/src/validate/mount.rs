//! Mounts of a container: targets, sources, options.

use std::collections::BTreeSet;

use secretd_core::seam::volumes::is_volume_name;
use secretd_core::service::{Mount, MountKind};

const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// Why a mount is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMount {
    #[error("ContainerSpec: duplicate mount point: {0} (--mount)")]
    Duplicate(String),
    #[error("invalid mount target, must be an absolute path without `..`: {0} (--mount target=)")]
    Target(String),
    #[error("invalid mount target {0}: secrets are there (--mount target=)")]
    Secrets(String),
    #[error("invalid bind mount source, must be an absolute path: {0} (--mount source=)")]
    BindSource(String),
    #[error("invalid volume mount source, must not be an absolute path: {0} (--mount source=)")]
    VolumePath(String),
    #[error(
        "invalid volume name {0}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 255 characters (--mount source=)"
    )]
    VolumeName(String),
    #[error("invalid propagation {0}: --mount bind-propagation= takes one of {known}", known = PROPAGATIONS.join(", "))]
    Propagation(String),
    #[error("invalid tmpfs mode {0:#o}: --mount tmpfs-mode= must be octal, at most 01777")]
    TmpfsMode(u32),
}

/// Checks all mounts of a container.
pub(crate) fn check(mounts: &[Mount]) -> Result<(), InvalidMount> {
    let mut targets = BTreeSet::new();
    for mount in mounts {
        let target = normal(&mount.target).ok_or_else(|| InvalidMount::Target(mount.target.clone()))?;
        if target == "/run/secrets" || target.starts_with("/run/secrets/") {
            return Err(InvalidMount::Secrets(mount.target.clone()));
        }
        if !targets.insert(target) {
            return Err(InvalidMount::Duplicate(mount.target.clone()));
        }
        check_kind(&mount.kind)?;
    }
    Ok(())
}

/// An absolute path without empty parts, `.`, or a slash at its end; `None` for anything else, and for `/` itself.
fn normal(path: &str) -> Option<String> {
    let below = path.strip_prefix('/')?;
    let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let is_good = !parts.is_empty() && !parts.contains(&"..") && !path.contains('\0');
    is_good.then(|| format!("/{}", parts.join("/")))
}

/// Whether a mount would be in the place of a secret's file, or below it.
pub(crate) fn is_over(mount: &Mount, secret_target: &str) -> bool {
    let below = normal(&mount.target).and_then(|target| Some(target.strip_prefix(secret_target)?.to_owned()));
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

fn check_kind(kind: &MountKind) -> Result<(), InvalidMount> {
    match kind {
        MountKind::Volume { name, .. } if name.starts_with('/') => Err(InvalidMount::VolumePath(name.clone())),
        MountKind::Volume { name, .. } if !name.is_empty() && !is_volume_name(name) => {
            Err(InvalidMount::VolumeName(name.clone()))
        }
        MountKind::Bind { source, .. } if !source.starts_with('/') || source.contains('\0') => {
            Err(InvalidMount::BindSource(source.clone()))
        }
        MountKind::Bind { propagation, .. }
            if !propagation.is_empty() && !PROPAGATIONS.contains(&propagation.as_str()) =>
        {
            Err(InvalidMount::Propagation(propagation.clone()))
        }
        MountKind::Tmpfs { mode, .. } if *mode > 0o1777 => Err(InvalidMount::TmpfsMode(*mode)),
        MountKind::Volume { .. } | MountKind::Bind { .. } | MountKind::Tmpfs { .. } => Ok(()),
    }
}
