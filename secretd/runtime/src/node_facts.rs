//! What this node says of itself.

use std::path::Path;

use secretd_core::node::NodeDescription;

/// Name, platform and resources as the kernel tells them; how secrets are protected is filled in by others.
pub fn describe(engine_version: &str) -> NodeDescription {
    let uname = rustix::system::uname();
    let cpus = std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1));
    let info = rustix::system::sysinfo();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let memory = u128::from(info.totalram) * u128::from(info.mem_unit);
    NodeDescription {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        os: std::env::consts::OS.to_owned(),
        architecture: architecture.to_owned(),
        engine_version: engine_version.to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        nano_cpus: cpus.saturating_mul(1_000_000_000),
        memory_bytes: i64::try_from(memory).unwrap_or(i64::MAX),
        cgroup: cgroup().to_owned(),
        ..NodeDescription::default()
    }
}

/// Which control groups there are (cgroups(7)): the unified hierarchy, the older ones, or both.
fn cgroup() -> &'static str {
    let root = Path::new("/sys/fs/cgroup");
    match (root.join("cgroup.controllers").exists(), root.join("unified").exists()) {
        (true, _) => "v2",
        (false, true) => "hybrid",
        (false, false) => "v1",
    }
}
