//! A whole service: every rule in one place, in the order in which a user would want to hear of them.

use std::time::Duration;

use secretd_core::placement::{NodeKey, Placement};
use secretd_core::service::{Mount, NetworkMode, ServiceMode, ServiceSpec};
use secretd_proto::id::SecretId;
use secretd_proto::name::{SecretName, ServiceName};

use super::{container, image, kernel, log, mount, resource, secret};

/// More replicas than any cluster of this release has been run with; one more zero is a typing error.
const MAX_REPLICAS: u64 = 100_000;
/// Longer waits are typing errors; they would also not fit the wire's durations everywhere.
const MAX_DURATION: Duration = Duration::from_hours(24 * 365);

/// Why a service is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidService {
    #[error(transparent)]
    Image(#[from] image::InvalidImage),
    #[error(transparent)]
    Container(#[from] container::InvalidContainer),
    #[error(transparent)]
    Mount(#[from] mount::InvalidMount),
    #[error(transparent)]
    Secret(#[from] secret::InvalidGrant),
    #[error("mount and secret have the same target: {0} (--mount target=, --secret target=)")]
    MountOverSecret(String),
    #[error(transparent)]
    Kernel(#[from] kernel::InvalidKernel),
    #[error(transparent)]
    Resource(#[from] resource::InvalidResource),
    #[error(transparent)]
    Log(#[from] log::InvalidLog),
    #[error("invalid replicas value {0}: it must be at most {MAX_REPLICAS} (--replicas)")]
    Replicas(u64),
    #[error("replicas-max-per-node can only be used with replicated services (--replicas-max-per-node)")]
    MaxReplicasOfGlobal,
    #[error("tasks can be spread over node.labels.KEY and engine.labels.KEY alone, not over {0} (--placement-pref)")]
    Spread(NodeKey),
    #[error("service mode change is not allowed: remove the service, and create it again")]
    Mode,
    #[error("invalid duration {}s: it must be at most a year ({flag})", value.as_secs())]
    Duration { value: Duration, flag: &'static str },
    #[error("renaming services is not supported: the service's name is {have}")]
    Renamed { have: ServiceName },
}

/// Checks a service; `lookup` knows secrets.
pub(crate) fn check(
    spec: &ServiceSpec,
    lookup: impl Fn(SecretId, &SecretName) -> Option<secret::Known>,
) -> Result<(), InvalidService> {
    let task = &spec.task;
    image::check(&task.container.image)?;
    container::check(&task.container)?;
    mount::check(&task.container.mounts)?;
    secret::check(&task.container.secrets, lookup)?;
    let hides = |mount: &&Mount| task.container.secrets.iter().any(|grant| mount::is_over(mount, &grant.target));
    if let Some(mount) = task.container.mounts.iter().find(hides) {
        return Err(InvalidService::MountOverSecret(mount.target.clone()));
    }
    kernel::check(&task.container, task.network == NetworkMode::Host)?;
    resource::check(&task.resources)?;
    log::check(&task.log)?;
    placement(spec)?;
    check_durations(spec)
}

fn placement(spec: &ServiceSpec) -> Result<(), InvalidService> {
    let Placement { preferences, max_replicas_per_node, .. } = &spec.task.placement;
    match spec.mode {
        ServiceMode::Replicated { replicas } if replicas > MAX_REPLICAS => {
            return Err(InvalidService::Replicas(replicas));
        }
        ServiceMode::Global if *max_replicas_per_node > 0 => return Err(InvalidService::MaxReplicasOfGlobal),
        ServiceMode::Replicated { .. } | ServiceMode::Global => {}
    }
    let is_label = |key: &&NodeKey| matches!(key, NodeKey::Label(_) | NodeKey::EngineLabel(_));
    match preferences.iter().find(|key| !is_label(key)) {
        Some(key) => Err(InvalidService::Spread(key.clone())),
        None => Ok(()),
    }
}

fn check_durations(spec: &ServiceSpec) -> Result<(), InvalidService> {
    let durations = [
        (spec.task.container.stop_grace_period, "--stop-grace-period"),
        (spec.task.restart.delay, "--restart-delay"),
        (spec.task.restart.window, "--restart-window"),
        (spec.update.delay, "--update-delay"),
        (spec.update.monitor, "--update-monitor"),
    ];
    match durations.into_iter().find(|(value, _)| *value > MAX_DURATION) {
        Some((value, flag)) => Err(InvalidService::Duration { value, flag }),
        None => Ok(()),
    }
}

/// Checks that an update leaves name and mode as they are.
pub(crate) fn check_kept(have: &ServiceSpec, wanted: &ServiceSpec) -> Result<(), InvalidService> {
    if have.name != wanted.name {
        return Err(InvalidService::Renamed { have: have.name.clone() });
    }
    match (have.mode, wanted.mode) {
        (ServiceMode::Replicated { .. }, ServiceMode::Replicated { .. })
        | (ServiceMode::Global, ServiceMode::Global) => Ok(()),
        (_, _) => Err(InvalidService::Mode),
    }
}
