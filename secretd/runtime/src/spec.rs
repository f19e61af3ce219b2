//! The OCI runtime specification of a container: pure, from the shim's configuration and what was resolved in its root.
//!
//! What is Docker's default is here: namespaces, mounts, masked and read-only paths, devices.

pub mod capability;

use camino::Utf8Path;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::shim_config::{Limits, MountSource, Process, ShimConfig};

/// What is found out in the container's root before the specification can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// User, group and supplementary groups.
    pub identity: Identity,
    /// Whether the unified hierarchy (cgroup version 2) alone is mounted.
    pub unified_cgroup: bool,
    /// Host paths of the three generated files of /etc, in their order: hosts, hostname, resolv.conf.
    pub etc: [String; 3],
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The user's home directory, for HOME.
    pub home: String,
}

/// What /proc and /sys of a container do not show (Docker's list).
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What it shows but does not let be written.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The specification, for libcontainer. Its process is root with the capabilities that the executor needs to finish:
/// the executor installs seccomp and then takes the wanted identity (docs/adr/0003).
///
/// # Errors
/// When a capability is not known, or the values do not make a specification.
pub fn build(config: &ShimConfig, resolved: &Resolved, rootfs: &Utf8Path) -> Result<Spec, BuildError> {
    let wanted = capability::effective(&config.process.cap_add, &config.process.cap_drop)?;
    let finishing: Vec<String> = capability::with_finishing(&wanted).into_iter().collect();
    let mut namespaces =
        vec![json!({"type": "pid"}), json!({"type": "ipc"}), json!({"type": "uts"}), json!({"type": "mount"})];
    if !config.host_network {
        namespaces.push(json!({"type": "network"}));
    }
    if resolved.unified_cgroup {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": {"path": rootfs, "readonly": config.read_only},
        "hostname": config.hostname,
        "process": {
            "terminal": config.process.tty,
            "user": {"uid": 0, "gid": 0},
            "args": config.process.args,
            "env": config.process.env,
            "cwd": config.process.workdir,
            "capabilities": {
                "bounding": finishing, "effective": finishing, "permitted": finishing, "inheritable": [], "ambient": [],
            },
            "rlimits": rlimits(&config.process),
            "oomScoreAdj": config.process.oom_score_adj,
        },
        "mounts": mounts(config, resolved),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": config.cgroup,
            "resources": resources(config.limits),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "sysctl": config.sysctls,
        },
    });
    serde_json::from_value(spec).map_err(BuildError::Spec)
}

/// Why no specification can be written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A capability that does not exist.
    #[error(transparent)]
    Capability(#[from] capability::UnknownCapability),
    /// The values do not make a specification.
    #[error("the container's settings make no valid specification: {0}")]
    Spec(#[source] serde_json::Error),
}

/// The limits of a container's processes, as the specification has them.
pub(crate) fn rlimits(process: &Process) -> Vec<Value> {
    process.ulimits.iter().map(rlimit).collect()
}

fn rlimit((name, soft, hard): &(String, i64, i64)) -> Value {
    // -1 is "no limit" for people, and the largest number for the kernel.
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    json!({"type": format!("RLIMIT_{}", name.to_uppercase()), "soft": value(*soft), "hard": value(*hard)})
}

fn resources(limits: Limits) -> Value {
    /// Of the scheduler's bandwidth control, in microseconds: the kernel's default.
    const PERIOD: i64 = 100_000;
    let mut resources = json!({"devices": devices()});
    if limits.nano_cpus > 0 {
        let quota = i128::from(limits.nano_cpus) * i128::from(PERIOD) / 1_000_000_000;
        resources["cpu"] = json!({"period": PERIOD, "quota": i64::try_from(quota).unwrap_or(i64::MAX).max(1000)});
    }
    if limits.memory_bytes > 0 {
        resources["memory"] = json!({"limit": limits.memory_bytes});
    }
    if limits.pids > 0 {
        resources["pids"] = json!({"limit": limits.pids});
    }
    resources
}

/// Which device nodes a container may use: the harmless ones and its own terminals. Making nodes is allowed, as in
/// Docker; using others is not.
fn devices() -> Value {
    let allow = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
    json!([
        {"allow": false, "access": "rwm"},
        allow("c", None, None, "m"),
        allow("b", None, None, "m"),
        allow("c", Some(1), Some(3), "rwm"),
        allow("c", Some(1), Some(5), "rwm"),
        allow("c", Some(1), Some(7), "rwm"),
        allow("c", Some(1), Some(8), "rwm"),
        allow("c", Some(1), Some(9), "rwm"),
        allow("c", Some(5), Some(0), "rwm"),
        allow("c", Some(5), Some(1), "rwm"),
        allow("c", Some(5), Some(2), "rwm"),
        allow("c", Some(136), None, "rwm"),
    ])
}

fn mounts(config: &ShimConfig, resolved: &Resolved) -> Vec<Value> {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": source, "options": options});
    let cgroup = if resolved.unified_cgroup { "cgroup2" } else { "cgroup" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ];
    if resolved.unified_cgroup {
        mounts.push(mount("/sys/fs/cgroup", cgroup, "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
    }
    let [hosts, hostname, resolv] = &resolved.etc;
    for (target, source) in [("/etc/hosts", hosts), ("/etc/hostname", hostname), ("/etc/resolv.conf", resolv)] {
        if !config.mounts.iter().any(|plan| plan.target == target) {
            mounts.push(mount(target, "bind", source, &["bind", "rprivate"]));
        }
    }
    for plan in &config.mounts {
        let access = if plan.read_only { "ro" } else { "rw" };
        mounts.push(match &plan.source {
            MountSource::Path { path, propagation, .. } => {
                let propagation = if propagation.is_empty() { "rprivate" } else { propagation };
                mount(&plan.target, "bind", path.as_str(), &["rbind", propagation, access])
            }
            MountSource::Tmpfs { size, mode } => {
                let mode = format!("mode={:o}", if *mode == 0 { 0o1777 } else { *mode });
                let size = format!("size={size}");
                let mut options = vec!["nosuid", "nodev", "noexec", access, mode.as_str()];
                if size != "size=0" {
                    options.push(&size);
                }
                mount(&plan.target, "tmpfs", "tmpfs", &options)
            }
        });
    }
    mounts
}

#[cfg(test)]
mod tests;
