//! Who cannot see a secret: the host's mount table, its paths, other containers, and root through /proc.

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::until;
use secretd_tests::node::Node;
use serde_json::Value;

fn cluster() -> Result<(Node, i32)> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "mine", "-"], b"plain-canary-51d2")?;
    node.create_service(&["--name", "app", "--secret", "mine", "busybox:1", "sleep", "1000"])?;
    // A task runs once its process is about to become the program.
    let program = || Ok(node.processes("sleep").into_iter().find(|pid| in_container(*pid)));
    let pid = until("the container's process", program)?;
    Ok((node, pid))
}

/// Whether a process has a root of its own with the secret mount in it.
fn in_container(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|mounts| mounts.contains(" /run/secrets "))
}

#[test]
fn mount_is_in_no_table_but_the_containers() -> Result<()> {
    let (node, pid) = cluster()?;

    for other in [node.sandbox().pid(), node.daemon_pid()?] {
        let mounts = std::fs::read_to_string(format!("/proc/{other}/mountinfo"))?;
        ensure!(!mounts.contains("/run/secrets") && !mounts.contains("secret-fs"), "{mounts}");
    }
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let line = mounts.lines().find(|line| line.contains(" /run/secrets ")).context("no secret mount")?;
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        ensure!(line.split([' ', ',']).any(|word| word == option), "{option} is missing: {line}");
    }
    Ok(())
}

#[test]
fn root_of_the_host_is_refused_and_recorded() -> Result<()> {
    let (node, pid) = cluster()?;
    let reads = || std::fs::read_to_string(node.data_dir().join("audit/reads.log"));
    ensure!(!reads()?.contains("refused"));

    let through_proc = std::fs::read(format!("/proc/{pid}/root/run/secrets/mine"));

    ensure!(through_proc.as_ref().is_err_and(|error| error.raw_os_error() == Some(13)), "{through_proc:?}");
    let log = reads()?;
    let record: Value = serde_json::from_str(log.lines().last().context("no record")?)?;
    ensure!(record["outcome"] == "refused", "{record}");
    ensure!(!log.contains("mine"), "a name on disk: {log}");
    Ok(())
}

#[test]
fn each_open_in_the_container_is_recorded() -> Result<()> {
    let (node, _) = cluster()?;
    let id: Value = serde_json::from_str(&node.ok(&["secret", "inspect", "mine"])?)?;
    let allowed = || -> Result<usize> {
        let log = std::fs::read_to_string(node.data_dir().join("audit/reads.log"))?;
        let id = id[0]["ID"].as_str().context("id")?;
        Ok(log.lines().filter(|line| line.contains("allowed") && line.contains(id)).count())
    };
    let before = allowed()?;

    node.ok(&["exec", "app.1", "sh", "-c", "cat /run/secrets/mine /run/secrets/mine /run/secrets/mine"])?;

    ensure!(allowed()? == before + 3);
    Ok(())
}

#[test]
fn container_without_the_grant_sees_nothing() -> Result<()> {
    let (node, _) = cluster()?;
    node.create_service(&["--name", "other", "busybox:1", "sleep", "1000"])?;

    let listing = node.sctl(&["exec", "other.1", "ls", "/run/secrets"], b"")?;

    ensure!(listing.code() == 1 && listing.stderr.contains("No such file"), "{listing:?}");
    Ok(())
}
