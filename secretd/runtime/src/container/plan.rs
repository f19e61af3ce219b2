//! What a task and its image make together: the shim's configuration. Pure.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use nix::sys::signal::Signal;
use secretd_core::service::{ContainerSpec, LogConfig, MountKind, NetworkMode};
use secretd_core::task::Task;
use secretd_proto::fs::Target;

use super::volume::{self, VolumePlan};
use crate::images::{ContainerDefaults, ResolvedImage};
use crate::shim_config::{
    Backend, Limits, LogPlan, MountPlan, MountSource, Overlay, Process, SecretFile, SecretsPlan, ShimConfig,
};

/// Where a task's things are.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) snapshot: Utf8PathBuf,
    pub(super) log: Utf8PathBuf,
    pub(super) cgroup: String,
    pub(super) secrets_socket: Utf8PathBuf,
    pub(super) backend: Backend,
}

/// The configuration, and the volumes that must be made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) config: ShimConfig,
    pub(super) volumes: Vec<VolumePlan>,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct PlanError(String);

/// A log file's size before a new one begins, and how many are kept: Docker keeps one without a limit, which fills disks.
const LOG_MAX_SIZE: u64 = 10 * 1024 * 1024;
const LOG_MAX_FILES: u32 = 3;

pub(super) fn plan(task: &Task, image: &ResolvedImage, places: &Places) -> Result<Plan, PlanError> {
    let spec = &task.spec.container;
    let (mounts, volumes) = mounts(task, &image.defaults);
    let config = ShimConfig {
        task: task.id,
        image: image.id.clone(),
        stop_signal: image.defaults.stop_signal.clone(),
        rootfs: Overlay {
            lower: image.layers.iter().rev().cloned().collect(),
            upper: places.snapshot.join("upper"),
            work: places.snapshot.join("work"),
        },
        process: process(spec, &image.defaults),
        mounts,
        read_only: spec.read_only,
        hostname: hostname(task),
        hosts: spec.hosts.clone(),
        host_network: task.spec.network == NetworkMode::Host,
        sysctls: spec.sysctls.clone(),
        cgroup: places.cgroup.clone(),
        limits: Limits {
            nano_cpus: task.spec.resources.nano_cpus,
            memory_bytes: task.spec.resources.memory_bytes,
            pids: task.spec.resources.pids,
        },
        secrets: secrets(spec, places)?,
        log: log(&task.spec.log, places)?,
    };
    Ok(Plan { config, volumes })
}

fn process(spec: &ContainerSpec, image: &ContainerDefaults) -> Process {
    let mut env: Vec<String> = image.env.clone();
    for entry in &spec.env {
        let key = entry.split('=').next().unwrap_or_default();
        env.retain(|old| old.split('=').next() != Some(key));
        env.push(entry.clone());
    }
    let first_of = |first: &str, second: &str, third: &str| {
        [first, second, third].into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned()
    };
    Process {
        args: arguments(spec, image),
        env,
        workdir: first_of(&spec.workdir, &image.working_dir, "/"),
        user: first_of(&spec.user, &image.user, ""),
        groups: spec.groups.clone(),
        tty: spec.tty,
        init: spec.init,
        no_new_privileges: spec.no_new_privileges,
        cap_add: spec.cap_add.clone(),
        cap_drop: spec.cap_drop.clone(),
        ulimits: spec.ulimits.iter().map(|limit| (limit.name.clone(), limit.soft, limit.hard)).collect(),
        oom_score_adj: spec.oom_score_adj,
    }
}

/// Entrypoint and command as Docker combines them: a service's own entrypoint drops the image's command.
fn arguments(spec: &ContainerSpec, image: &ContainerDefaults) -> Vec<String> {
    let (entrypoint, default) = match spec.entrypoint.as_slice() {
        [] => (&image.entrypoint, image.cmd.as_slice()),
        _ => (&spec.entrypoint, &[][..]),
    };
    let command = if spec.args.is_empty() { default } else { &spec.args };
    entrypoint.iter().chain(command).cloned().collect()
}

fn hostname(task: &Task) -> String {
    let spec = &task.spec.container;
    if !spec.hostname.is_empty() {
        return spec.hostname.clone();
    }
    task.id.to_string().chars().take(12).collect()
}

fn mounts(task: &Task, image: &ContainerDefaults) -> (Vec<MountPlan>, Vec<VolumePlan>) {
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    let mut volume =
        |mounts: &mut Vec<MountPlan>, name: &str, nocopy, labels: BTreeMap<String, String>, target: &str, read_only| {
            let index = mounts.len();
            let name = if name.is_empty() { volume::anonymous(&task.id, index) } else { name.to_owned() };
            volumes.push(VolumePlan { mount: index, name, nocopy, labels });
            let source = MountSource::Path { path: Utf8PathBuf::new(), propagation: String::new(), populate: false };
            mounts.push(MountPlan { target: target.to_owned(), source, read_only });
        };
    for mount in &task.spec.container.mounts {
        match &mount.kind {
            MountKind::Volume { name, nocopy, labels } => {
                volume(&mut mounts, name, *nocopy, labels.clone(), &mount.target, mount.read_only);
            }
            MountKind::Bind { source, propagation } => mounts.push(MountPlan {
                target: mount.target.clone(),
                source: MountSource::Path { path: source.into(), propagation: propagation.clone(), populate: false },
                read_only: mount.read_only,
            }),
            MountKind::Tmpfs { size, mode } => mounts.push(MountPlan {
                target: mount.target.clone(),
                source: MountSource::Tmpfs { size: *size, mode: *mode },
                read_only: mount.read_only,
            }),
        }
    }
    for target in image.volumes.keys() {
        if !mounts.iter().any(|mount| mount.target == *target) {
            volume(&mut mounts, "", false, BTreeMap::new(), target, false);
        }
    }
    (mounts, volumes)
}

fn secrets(spec: &ContainerSpec, places: &Places) -> Result<Option<SecretsPlan>, PlanError> {
    if spec.secrets.is_empty() {
        return Ok(None);
    }
    let file = |grant: &secretd_core::service::SecretGrant| {
        let target = Target::parse(&grant.target).map_err(|error| PlanError(error.to_string()))?;
        Ok(SecretFile { target, uid: grant.uid, gid: grant.gid, mode: grant.mode })
    };
    let files = spec.secrets.iter().map(file).collect::<Result<_, PlanError>>()?;
    Ok(Some(SecretsPlan { socket: places.secrets_socket.clone(), backend: places.backend, files }))
}

fn log(log: &LogConfig, places: &Places) -> Result<LogPlan, PlanError> {
    let number = |name: &str, default: u64| match log.options.get(name) {
        None => Ok(default),
        Some(text) => size(text)
            .ok_or_else(|| PlanError(format!("invalid log option {name}={text}: give a number, with k, m or g"))),
    };
    let max_files = number("max-file", u64::from(LOG_MAX_FILES))?;
    Ok(LogPlan {
        directory: (log.driver != "none").then(|| places.log.clone()),
        max_size: number("max-size", LOG_MAX_SIZE)?,
        max_files: u32::try_from(max_files).unwrap_or(u32::MAX).max(1),
    })
}

/// A number of bytes: with k, m or g for powers of 1024.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, unit) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) => (digits, lower.chars().last().unwrap_or_default()),
        None => (lower, ' '),
    };
    let factor = match unit {
        'k' => 1 << 10,
        'm' => 1 << 20,
        'g' => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The number of a signal: by name with or without SIG, or as a number.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper.clone() } else { format!("SIG{upper}") };
    if let Ok(signal) = name.parse::<Signal>() {
        return Ok(signal as i32);
    }
    if let Some(offset) = name.strip_prefix("SIGRTMIN+").and_then(|text| text.parse::<i32>().ok()) {
        return Ok(nix::libc::SIGRTMIN() + offset);
    }
    text.parse().ok().filter(|number| (1..=64).contains(number)).ok_or_else(|| format!("invalid signal: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments_of(entrypoint: &[&str], args: &[&str], image: (&[&str], &[&str])) -> Vec<String> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let wire =
            secretd_proto::v1::ContainerSpec { entrypoint: owned(entrypoint), args: owned(args), ..Default::default() };
        let defaults =
            ContainerDefaults { entrypoint: owned(image.0), cmd: owned(image.1), ..ContainerDefaults::default() };
        arguments(&ContainerSpec::try_from(wire).unwrap(), &defaults)
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        assert_eq!(arguments_of(&[], &[], (&["e"], &["c"])), ["e", "c"]);
        assert_eq!(arguments_of(&[], &["x"], (&["e"], &["c"])), ["e", "x"]);
        assert_eq!(arguments_of(&["n"], &[], (&["e"], &["c"])), ["n"]);
        assert_eq!(arguments_of(&["n"], &["x"], (&["e"], &["c"])), ["n", "x"]);
    }

    #[test]
    fn sizes_and_signals_are_read_as_docker_reads_them() {
        assert_eq!(
            (size("10m"), size("2kb"), size("7"), size("x"), size("")),
            (Some(10 << 20), Some(2048), Some(7), None, None)
        );
        assert_eq!((signal("SIGTERM"), signal("int"), signal("9"), signal("RTMIN+3")), (Ok(15), Ok(2), Ok(9), Ok(37)));
        assert!(signal("FLY").is_err() && signal("0").is_err() && signal("65").is_err());
    }
}
