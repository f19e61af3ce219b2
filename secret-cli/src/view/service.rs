//! Services: their specification in Docker's field names.

use secretd_proto::v1;
use serde_json::{Value, json};

use super::{head, labels, labels_cell};
use crate::format::Column;
use crate::timestamp::rfc3339;

/// The columns of `service ls`.
pub(crate) const COLUMNS: [Column; 5] =
    [("ID", "ID"), ("Name", "NAME"), ("Mode", "MODE"), ("Replicas", "REPLICAS"), ("Image", "IMAGE")];
/// Further fields of a row.
pub(crate) const MORE: [Column; 1] = [("Labels", "LABELS")];

/// A row of `service ls`.
pub(crate) fn row(summary: &v1::ServiceSummary) -> Value {
    let service = summary.service.clone().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    let image = container(&spec).image;
    json!({
        "ID": service.id,
        "Name": spec.name,
        "Mode": mode(&spec),
        "Replicas": format!("{}/{}", summary.running, summary.desired),
        "Image": image.split('@').next().unwrap_or_default(),
        "Labels": labels_cell(&spec.labels),
    })
}

/// The object of `service inspect`.
pub(crate) fn object(service: &v1::Service) -> Value {
    let mut map = head(&service.id, service.meta.as_ref());
    map.insert("Spec".to_owned(), spec_value(&service.spec.clone().unwrap_or_default()));
    if let Some(previous) = &service.previous_spec {
        map.insert("PreviousSpec".to_owned(), spec_value(previous));
    }
    if let Some(status) = service.update_status.as_ref().filter(|status| !update_state(status).is_empty()) {
        let status = json!({
            "State": update_state(status),
            "StartedAt": rfc3339(status.started_at.as_ref()),
            "CompletedAt": status.completed_at.as_ref().map(|at| rfc3339(Some(at))),
            "Message": status.message,
        });
        map.insert("UpdateStatus".to_owned(), status);
    }
    Value::Object(map)
}

fn spec_value(spec: &v1::ServiceSpec) -> Value {
    let task = spec.task.clone().unwrap_or_default();
    let resources = task.resources.unwrap_or_default();
    let restart = task.restart.unwrap_or_default();
    let log = task.log.clone().unwrap_or_default();
    json!({
        "Name": spec.name,
        "Labels": labels(&spec.labels),
        "TaskTemplate": {
            "ContainerSpec": container_value(&container(spec)),
            "Resources": {
                "Limits": { "NanoCPUs": resources.nano_cpus, "MemoryBytes": resources.memory_bytes, "Pids": resources.pids },
                "Reservations": {
                    "NanoCPUs": resources.reserve_nano_cpus, "MemoryBytes": resources.reserve_memory_bytes,
                },
            },
            "RestartPolicy": {
                "Condition": condition(&restart),
                "Delay": nanos(restart.delay.as_ref()),
                "MaxAttempts": restart.max_attempts,
                "Window": nanos(restart.window.as_ref()),
            },
            "Networks": [{ "Target": network(&task) }],
            "LogDriver": { "Name": log.driver, "Options": labels(&log.options) },
            "Placement": placement(task.placement.as_ref()),
            "ForceUpdate": task.force_update,
        },
        "Mode": match replicas(spec) {
            Some(replicas) => json!({ "Replicated": { "Replicas": replicas } }),
            None => json!({ "Global": {} }),
        },
        "UpdateConfig": update_value(&spec.update.unwrap_or_default()),
    })
}

fn container_value(container: &v1::ContainerSpec) -> Value {
    let secret = |grant: &v1::SecretGrant| {
        json!({
            "File": {
                "Name": grant.target, "UID": grant.uid.to_string(), "GID": grant.gid.to_string(), "Mode": grant.mode,
            },
            "SecretID": grant.secret_id,
            "SecretName": grant.secret_name,
        })
    };
    let ulimit = |limit: &v1::Ulimit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard });
    json!({
        "Image": container.image,
        "Labels": labels(&container.labels),
        "Command": container.entrypoint,
        "Args": container.args,
        "Hostname": container.hostname,
        "Env": container.env,
        "Dir": container.workdir,
        "User": container.user,
        "Groups": container.groups,
        "TTY": container.tty,
        "ReadOnly": container.read_only,
        "Init": container.init,
        "Privileges": { "NoNewPrivileges": container.no_new_privileges },
        "StopSignal": container.stop_signal,
        "StopGracePeriod": nanos(container.stop_grace_period.as_ref()),
        "Mounts": container.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Secrets": container.secrets.iter().map(secret).collect::<Vec<_>>(),
        "Hosts": container.hosts,
        "CapabilityAdd": container.cap_add,
        "CapabilityDrop": container.cap_drop,
        "Ulimits": container.ulimits.iter().map(ulimit).collect::<Vec<_>>(),
        "Sysctls": labels(&container.sysctls),
        "OomScoreAdj": container.oom_score_adj,
    })
}

fn mount(mount: &v1::Mount) -> Value {
    let mut value = json!({ "Type": mount_type(mount), "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only });
    let options = match mount.kind() {
        v1::mount::Kind::Volume => {
            ("VolumeOptions", json!({ "NoCopy": mount.volume_nocopy, "Labels": labels(&mount.volume_labels) }))
        }
        v1::mount::Kind::Bind => ("BindOptions", json!({ "Propagation": mount.bind_propagation })),
        v1::mount::Kind::Tmpfs => ("TmpfsOptions", json!({ "SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode })),
    };
    if let Some(map) = value.as_object_mut() {
        map.insert(options.0.to_owned(), options.1);
    }
    value
}

fn mount_type(mount: &v1::Mount) -> &'static str {
    match mount.kind() {
        v1::mount::Kind::Volume => "volume",
        v1::mount::Kind::Bind => "bind",
        v1::mount::Kind::Tmpfs => "tmpfs",
    }
}

fn update_value(update: &v1::UpdateConfig) -> Value {
    json!({
        "Parallelism": update.parallelism,
        "Delay": nanos(update.delay.as_ref()),
        "FailureAction": action(update),
        "Monitor": nanos(update.monitor.as_ref()),
        "Order": order(update),
    })
}

/// The container of a specification.
pub(crate) fn container(spec: &v1::ServiceSpec) -> v1::ContainerSpec {
    spec.task.as_ref().and_then(|task| task.container.clone()).unwrap_or_default()
}

/// The number of replicas that are wanted; `None` for a global service.
pub(crate) fn replicas(spec: &v1::ServiceSpec) -> Option<u64> {
    match &spec.mode {
        Some(v1::service_spec::Mode::Replicated(mode)) => Some(mode.replicas),
        Some(v1::service_spec::Mode::Global(_)) | None => None,
    }
}

fn mode(spec: &v1::ServiceSpec) -> &'static str {
    if replicas(spec).is_some() { "replicated" } else { "global" }
}

fn placement(placement: Option<&v1::Placement>) -> Value {
    let placement = placement.cloned().unwrap_or_default();
    let spread = placement.spread.iter().map(|key| json!({ "Spread": { "SpreadDescriptor": key } }));
    json!({
        "Constraints": placement.constraints,
        "Preferences": spread.collect::<Vec<_>>(),
        "MaxReplicas": placement.max_replicas_per_node,
    })
}

fn network(task: &v1::TaskSpec) -> &'static str {
    match task.network() {
        v1::NetworkMode::None => "none",
        v1::NetworkMode::Host => "host",
    }
}

fn condition(restart: &v1::RestartPolicy) -> &'static str {
    match restart.condition() {
        v1::restart_policy::Condition::Any => "any",
        v1::restart_policy::Condition::OnFailure => "on-failure",
        v1::restart_policy::Condition::None => "none",
    }
}

fn action(update: &v1::UpdateConfig) -> &'static str {
    match update.failure_action() {
        v1::update_config::FailureAction::Pause => "pause",
        v1::update_config::FailureAction::Continue => "continue",
        v1::update_config::FailureAction::Rollback => "rollback",
    }
}

fn order(update: &v1::UpdateConfig) -> &'static str {
    match update.order() {
        v1::update_config::Order::StopFirst => "stop-first",
        v1::update_config::Order::StartFirst => "start-first",
    }
}

fn update_state(status: &v1::UpdateStatus) -> &'static str {
    match status.state() {
        v1::update_status::State::None => "",
        v1::update_status::State::Updating => "updating",
        v1::update_status::State::Paused => "paused",
        v1::update_status::State::Completed => "completed",
        v1::update_status::State::RollbackStarted => "rollback_started",
        v1::update_status::State::RollbackPaused => "rollback_paused",
        v1::update_status::State::RollbackCompleted => "rollback_completed",
    }
}

/// A duration in nanoseconds, as Docker's objects have it.
fn nanos(duration: Option<&prost_types::Duration>) -> Value {
    duration.map_or(Value::Null, |of| {
        Value::from(of.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(of.nanos)))
    })
}
