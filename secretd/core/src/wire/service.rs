//! Services and all that a service says of its tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use secretd_proto::v1;

use super::{WireError, duration_from_wire, duration_to_wire, known, parse, required, time_from_wire, time_to_wire};
use crate::placement::Placement;
use crate::secret::SecretVersion;
use crate::service::{
    ContainerSpec, FailureAction, LogConfig, Mount, MountKind, NetworkMode, Resources, RestartCondition, RestartPolicy,
    SecretGrant, Service, ServiceMode, ServiceSpec, TaskSpec, Ulimit, UpdateConfig, UpdateOrder, UpdateState,
    UpdateStatus,
};
use crate::time::Version;

/// Docker's grace between the stop signal and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl From<ServiceSpec> for v1::ServiceSpec {
    fn from(spec: ServiceSpec) -> Self {
        let mode = match spec.mode {
            ServiceMode::Replicated { replicas } => v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas }),
            ServiceMode::Global => v1::service_spec::Mode::Global(v1::GlobalMode {}),
        };
        Self {
            name: spec.name.into(),
            labels: spec.labels.into_iter().collect(),
            task: Some(spec.task.into()),
            mode: Some(mode),
            update: Some(spec.update.into()),
        }
    }
}

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = WireError;
    fn try_from(spec: v1::ServiceSpec) -> Result<Self, WireError> {
        let mode = match required("mode", spec.mode)? {
            v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas }) => ServiceMode::Replicated { replicas },
            v1::service_spec::Mode::Global(v1::GlobalMode {}) => ServiceMode::Global,
        };
        Ok(Self {
            name: parse("name", &spec.name)?,
            labels: BTreeMap::from_iter(spec.labels),
            task: required("task", spec.task)?.try_into()?,
            mode,
            update: spec.update.map_or_else(|| Ok(UpdateConfig::default()), TryInto::try_into)?,
        })
    }
}

impl From<UpdateConfig> for v1::UpdateConfig {
    fn from(update: UpdateConfig) -> Self {
        use v1::update_config::{FailureAction as WireAction, Order};
        let order = match update.order {
            UpdateOrder::StopFirst => Order::StopFirst,
            UpdateOrder::StartFirst => Order::StartFirst,
        };
        let action = match update.failure_action {
            FailureAction::Pause => WireAction::Pause,
            FailureAction::Continue => WireAction::Continue,
            FailureAction::Rollback => WireAction::Rollback,
        };
        Self {
            parallelism: update.parallelism,
            delay: Some(duration_to_wire(update.delay)),
            order: order.into(),
            failure_action: action.into(),
            monitor: Some(duration_to_wire(update.monitor)),
        }
    }
}

impl TryFrom<v1::UpdateConfig> for UpdateConfig {
    type Error = WireError;
    fn try_from(update: v1::UpdateConfig) -> Result<Self, WireError> {
        use v1::update_config::{FailureAction as WireAction, Order};
        let default = Self::default();
        Ok(Self {
            parallelism: update.parallelism,
            delay: duration_from_wire("update.delay", update.delay, default.delay)?,
            order: match known("update.order", update.order)? {
                Order::StopFirst => UpdateOrder::StopFirst,
                Order::StartFirst => UpdateOrder::StartFirst,
            },
            failure_action: match known("update.failure_action", update.failure_action)? {
                WireAction::Pause => FailureAction::Pause,
                WireAction::Continue => FailureAction::Continue,
                WireAction::Rollback => FailureAction::Rollback,
            },
            monitor: duration_from_wire("update.monitor", update.monitor, default.monitor)?,
        })
    }
}

impl From<TaskSpec> for v1::TaskSpec {
    fn from(spec: TaskSpec) -> Self {
        let network = match spec.network {
            NetworkMode::None => v1::NetworkMode::None,
            NetworkMode::Host => v1::NetworkMode::Host,
        };
        Self {
            container: Some(spec.container.into()),
            restart: Some(spec.restart.into()),
            resources: Some(spec.resources.into()),
            force_update: spec.force_update,
            log: Some(v1::LogConfig { driver: spec.log.driver, options: spec.log.options.into_iter().collect() }),
            network: network.into(),
            placement: Some(spec.placement.into()),
        }
    }
}

impl TryFrom<v1::TaskSpec> for TaskSpec {
    type Error = WireError;
    fn try_from(spec: v1::TaskSpec) -> Result<Self, WireError> {
        let log = spec.log.unwrap_or_default();
        Ok(Self {
            container: required("task.container", spec.container)?.try_into()?,
            restart: spec.restart.map_or_else(|| Ok(RestartPolicy::default()), TryInto::try_into)?,
            resources: spec.resources.map(Resources::from).unwrap_or_default(),
            force_update: spec.force_update,
            log: LogConfig { driver: log.driver, options: BTreeMap::from_iter(log.options) },
            network: match known("task.network", spec.network)? {
                v1::NetworkMode::None => NetworkMode::None,
                v1::NetworkMode::Host => NetworkMode::Host,
            },
            placement: spec.placement.unwrap_or_default().try_into()?,
        })
    }
}

impl From<Placement> for v1::Placement {
    fn from(placement: Placement) -> Self {
        Self {
            constraints: placement.constraints.iter().map(ToString::to_string).collect(),
            spread: placement.preferences.iter().map(ToString::to_string).collect(),
            max_replicas_per_node: placement.max_replicas_per_node,
        }
    }
}

impl TryFrom<v1::Placement> for Placement {
    type Error = WireError;
    fn try_from(placement: v1::Placement) -> Result<Self, WireError> {
        let constraints = placement.constraints.iter().map(|text| parse("task.placement.constraints", text));
        let preferences = placement.spread.iter().map(|text| parse("task.placement.spread", text));
        Ok(Self {
            constraints: constraints.collect::<Result<_, _>>()?,
            preferences: preferences.collect::<Result<_, _>>()?,
            max_replicas_per_node: placement.max_replicas_per_node,
        })
    }
}

impl From<ContainerSpec> for v1::ContainerSpec {
    fn from(spec: ContainerSpec) -> Self {
        Self {
            image: spec.image,
            entrypoint: spec.entrypoint,
            args: spec.args,
            env: spec.env,
            workdir: spec.workdir,
            user: spec.user,
            groups: spec.groups,
            hostname: spec.hostname,
            labels: spec.labels.into_iter().collect(),
            mounts: spec.mounts.into_iter().map(Into::into).collect(),
            secrets: spec.secrets.into_iter().map(Into::into).collect(),
            read_only: spec.read_only,
            init: spec.init,
            tty: spec.tty,
            no_new_privileges: spec.no_new_privileges,
            stop_signal: spec.stop_signal,
            stop_grace_period: Some(duration_to_wire(spec.stop_grace_period)),
            cap_add: spec.cap_add,
            cap_drop: spec.cap_drop,
            hosts: spec.hosts,
            ulimits: spec
                .ulimits
                .into_iter()
                .map(|limit| v1::Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
                .collect(),
            sysctls: spec.sysctls.into_iter().collect(),
            oom_score_adj: spec.oom_score_adj,
        }
    }
}

impl TryFrom<v1::ContainerSpec> for ContainerSpec {
    type Error = WireError;
    fn try_from(spec: v1::ContainerSpec) -> Result<Self, WireError> {
        let grace = duration_from_wire("container.stop_grace_period", spec.stop_grace_period, STOP_GRACE)?;
        Ok(Self {
            image: spec.image,
            entrypoint: spec.entrypoint,
            args: spec.args,
            env: spec.env,
            workdir: spec.workdir,
            user: spec.user,
            groups: spec.groups,
            hostname: spec.hostname,
            labels: BTreeMap::from_iter(spec.labels),
            mounts: spec.mounts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            secrets: spec.secrets.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            read_only: spec.read_only,
            init: spec.init,
            tty: spec.tty,
            no_new_privileges: spec.no_new_privileges,
            stop_signal: spec.stop_signal,
            stop_grace_period: grace,
            cap_add: spec.cap_add,
            cap_drop: spec.cap_drop,
            hosts: spec.hosts,
            ulimits: spec
                .ulimits
                .into_iter()
                .map(|limit| Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
                .collect(),
            sysctls: BTreeMap::from_iter(spec.sysctls),
            oom_score_adj: spec.oom_score_adj,
        })
    }
}

impl From<SecretGrant> for v1::SecretGrant {
    fn from(grant: SecretGrant) -> Self {
        Self {
            secret_id: grant.secret.to_string(),
            secret_name: grant.name.into(),
            target: grant.target,
            uid: grant.uid,
            gid: grant.gid,
            mode: grant.mode,
            pinned_version: grant.pinned.map_or(0, |version| version.0),
        }
    }
}

impl TryFrom<v1::SecretGrant> for SecretGrant {
    type Error = WireError;
    fn try_from(grant: v1::SecretGrant) -> Result<Self, WireError> {
        Ok(Self {
            secret: parse("secrets.secret_id", &grant.secret_id)?,
            name: parse("secrets.secret_name", &grant.secret_name)?,
            target: grant.target,
            uid: grant.uid,
            gid: grant.gid,
            mode: grant.mode,
            pinned: (grant.pinned_version != 0).then_some(SecretVersion(grant.pinned_version)),
        })
    }
}

impl From<Mount> for v1::Mount {
    fn from(mount: Mount) -> Self {
        let wire = Self { target: mount.target, read_only: mount.read_only, ..Self::default() };
        match mount.kind {
            MountKind::Volume { name, nocopy, labels } => Self {
                kind: v1::mount::Kind::Volume.into(),
                source: name,
                volume_nocopy: nocopy,
                volume_labels: labels.into_iter().collect(),
                ..wire
            },
            MountKind::Bind { source, propagation } => {
                Self { kind: v1::mount::Kind::Bind.into(), source, bind_propagation: propagation, ..wire }
            }
            MountKind::Tmpfs { size, mode } => {
                Self { kind: v1::mount::Kind::Tmpfs.into(), tmpfs_size: size, tmpfs_mode: mode, ..wire }
            }
        }
    }
}

impl TryFrom<v1::Mount> for Mount {
    type Error = WireError;
    fn try_from(mount: v1::Mount) -> Result<Self, WireError> {
        let kind = match known("mounts.kind", mount.kind)? {
            v1::mount::Kind::Volume => MountKind::Volume {
                name: mount.source,
                nocopy: mount.volume_nocopy,
                labels: BTreeMap::from_iter(mount.volume_labels),
            },
            v1::mount::Kind::Bind => MountKind::Bind { source: mount.source, propagation: mount.bind_propagation },
            v1::mount::Kind::Tmpfs if mount.source.is_empty() => {
                MountKind::Tmpfs { size: mount.tmpfs_size, mode: mount.tmpfs_mode }
            }
            v1::mount::Kind::Tmpfs => return Err(WireError::new("mounts.source", "must be empty for a tmpfs")),
        };
        Ok(Self { kind, target: mount.target, read_only: mount.read_only })
    }
}

impl From<RestartPolicy> for v1::RestartPolicy {
    fn from(policy: RestartPolicy) -> Self {
        use v1::restart_policy::Condition;
        let condition = match policy.condition {
            RestartCondition::Any => Condition::Any,
            RestartCondition::OnFailure => Condition::OnFailure,
            RestartCondition::None => Condition::None,
        };
        Self {
            condition: condition.into(),
            delay: Some(duration_to_wire(policy.delay)),
            max_attempts: policy.max_attempts,
            window: Some(duration_to_wire(policy.window)),
        }
    }
}

impl TryFrom<v1::RestartPolicy> for RestartPolicy {
    type Error = WireError;
    fn try_from(policy: v1::RestartPolicy) -> Result<Self, WireError> {
        use v1::restart_policy::Condition;
        let default = Self::default();
        Ok(Self {
            condition: match known("restart.condition", policy.condition)? {
                Condition::Any => RestartCondition::Any,
                Condition::OnFailure => RestartCondition::OnFailure,
                Condition::None => RestartCondition::None,
            },
            delay: duration_from_wire("restart.delay", policy.delay, default.delay)?,
            max_attempts: policy.max_attempts,
            window: duration_from_wire("restart.window", policy.window, default.window)?,
        })
    }
}

impl From<Resources> for v1::Resources {
    fn from(resources: Resources) -> Self {
        Self {
            nano_cpus: resources.nano_cpus,
            memory_bytes: resources.memory_bytes,
            pids: resources.pids,
            reserve_nano_cpus: resources.reserve_nano_cpus,
            reserve_memory_bytes: resources.reserve_memory_bytes,
        }
    }
}

impl From<v1::Resources> for Resources {
    fn from(resources: v1::Resources) -> Self {
        Self {
            nano_cpus: resources.nano_cpus,
            memory_bytes: resources.memory_bytes,
            pids: resources.pids,
            reserve_nano_cpus: resources.reserve_nano_cpus,
            reserve_memory_bytes: resources.reserve_memory_bytes,
        }
    }
}

impl From<Service> for v1::Service {
    fn from(service: Service) -> Self {
        Self {
            id: service.id.to_string(),
            meta: Some(service.meta.into()),
            spec: Some(service.spec.into()),
            previous_spec: service.previous_spec.map(Into::into),
            update_status: service.update_status.map(Into::into),
            spec_version: service.spec_version.0,
        }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = WireError;
    fn try_from(service: v1::Service) -> Result<Self, WireError> {
        Ok(Self {
            id: parse("id", &service.id)?,
            meta: required("meta", service.meta)?.into(),
            spec: required("spec", service.spec)?.try_into()?,
            previous_spec: service.previous_spec.map(TryInto::try_into).transpose()?,
            update_status: match service.update_status {
                Some(status) if status.state != v1::update_status::State::None as i32 => Some(status.try_into()?),
                _ => None,
            },
            spec_version: Version(service.spec_version),
        })
    }
}

impl From<UpdateStatus> for v1::UpdateStatus {
    fn from(status: UpdateStatus) -> Self {
        use v1::update_status::State;
        let state = match status.state {
            UpdateState::Updating => State::Updating,
            UpdateState::Paused => State::Paused,
            UpdateState::Completed => State::Completed,
            UpdateState::RollbackStarted => State::RollbackStarted,
            UpdateState::RollbackPaused => State::RollbackPaused,
            UpdateState::RollbackCompleted => State::RollbackCompleted,
        };
        Self {
            state: state.into(),
            started_at: Some(time_to_wire(status.started_at)),
            completed_at: status.completed_at.map(time_to_wire),
            message: status.message,
        }
    }
}

impl TryFrom<v1::UpdateStatus> for UpdateStatus {
    type Error = WireError;
    fn try_from(status: v1::UpdateStatus) -> Result<Self, WireError> {
        use v1::update_status::State;
        Ok(Self {
            state: match known("update_status.state", status.state)? {
                State::None => return Err(WireError::new("update_status.state", "is missing")),
                State::Updating => UpdateState::Updating,
                State::Paused => UpdateState::Paused,
                State::Completed => UpdateState::Completed,
                State::RollbackStarted => UpdateState::RollbackStarted,
                State::RollbackPaused => UpdateState::RollbackPaused,
                State::RollbackCompleted => UpdateState::RollbackCompleted,
            },
            started_at: time_from_wire(status.started_at),
            completed_at: status.completed_at.map(|time| time_from_wire(Some(time))),
            message: status.message,
        })
    }
}
