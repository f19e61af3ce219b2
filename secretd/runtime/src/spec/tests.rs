//! Tables of what settings become.

use std::collections::BTreeMap;

use secretd_proto::id::TaskId;

use super::*;
use crate::shim_config::{LogPlan, MountPlan, Overlay, Process};

fn config() -> ShimConfig {
    ShimConfig {
        task: TaskId::from_random([1; 16]),
        image: String::new(),
        stop_signal: String::new(),
        rootfs: Overlay { lower: vec![], upper: "/u".into(), work: "/w".into() },
        process: Process {
            args: vec!["sh".into()],
            env: vec!["A=b".into()],
            workdir: "/".into(),
            user: String::new(),
            groups: vec![],
            tty: false,
            init: false,
            no_new_privileges: false,
            cap_add: vec![],
            cap_drop: vec![],
            ulimits: vec![("nofile".into(), 10, -1)],
            oom_score_adj: 7,
        },
        mounts: vec![],
        read_only: true,
        hostname: "h".into(),
        hosts: vec![],
        host_network: false,
        sysctls: BTreeMap::new(),
        cgroup: "/secretd/t".into(),
        limits: Limits::default(),
        secrets: None,
        log: LogPlan { directory: None, max_size: 0, max_files: 1 },
    }
}

fn built(config: &ShimConfig, unified_cgroup: bool) -> Value {
    let etc = ["/r/hosts".into(), "/r/hostname".into(), "/r/resolv.conf".into()];
    let resolved = Resolved { identity: Identity::default(), unified_cgroup, etc };
    serde_json::to_value(build(config, &resolved, "/r/rootfs".into()).unwrap()).unwrap()
}

fn namespaces(spec: &Value) -> Vec<&str> {
    spec["linux"]["namespaces"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect()
}

#[test]
fn network_is_the_hosts_on_request_and_cgroup_namespace_is_for_version_2() {
    assert_eq!(namespaces(&built(&config(), false)), ["pid", "ipc", "uts", "mount", "network"]);
    assert_eq!(
        namespaces(&built(&ShimConfig { host_network: true, ..config() }, true)),
        ["pid", "ipc", "uts", "mount", "cgroup"]
    );
}

#[test]
fn limits_become_quota_memory_and_pids() {
    let limits = Limits { nano_cpus: 1_500_000_000, memory_bytes: 1 << 26, pids: 50 };
    let spec = built(&ShimConfig { limits, ..config() }, false);
    let resources = &spec["linux"]["resources"];

    assert_eq!((&resources["cpu"]["quota"], &resources["cpu"]["period"]), (&json!(150_000), &json!(100_000)));
    assert_eq!((&resources["memory"]["limit"], &resources["pids"]["limit"]), (&json!(1 << 26), &json!(50)));
    assert!(built(&config(), false)["linux"]["resources"]["memory"].is_null());
}

#[test]
fn unlimited_ulimit_is_the_kernels_largest_number() {
    let spec = built(&config(), false);

    let limit = &spec["process"]["rlimits"][0];
    assert_eq!(
        (&limit["type"], &limit["soft"], &limit["hard"]),
        (&json!("RLIMIT_NOFILE"), &json!(10), &json!(u64::MAX))
    );
}

#[test]
fn process_begins_as_root_with_what_the_executor_needs() {
    let spec = built(&config(), false);

    assert_eq!(spec["process"]["user"]["uid"], 0);
    let bounding = spec["process"]["capabilities"]["bounding"].as_array().unwrap();
    assert!(bounding.contains(&json!("CAP_SYS_ADMIN")) && bounding.len() == 15, "{bounding:?}");
    assert_eq!((&spec["root"]["readonly"], &spec["process"]["oomScoreAdj"]), (&json!(true), &json!(7)));
}

#[test]
fn mounts_keep_their_order_and_a_user_mount_replaces_a_generated_file() {
    let bind = |target: &str| MountPlan {
        target: target.into(),
        source: MountSource::Path { path: "/host".into(), propagation: String::new(), populate: false },
        read_only: true,
    };
    let tmpfs =
        MountPlan { target: "/t".into(), source: MountSource::Tmpfs { size: 9, mode: 0o700 }, read_only: false };
    let spec = built(&ShimConfig { mounts: vec![bind("/etc/hosts"), tmpfs], ..config() }, false);

    let mounts = spec["mounts"].as_array().unwrap();
    assert_eq!(mounts.iter().filter(|mount| mount["destination"] == "/etc/hosts").count(), 1);
    let last = &mounts[mounts.len() - 1];
    assert_eq!(last["options"], json!(["nosuid", "nodev", "noexec", "rw", "mode=700", "size=9"]));
    assert_eq!(mounts[mounts.len() - 2]["options"], json!(["rbind", "rprivate", "ro"]));
}
