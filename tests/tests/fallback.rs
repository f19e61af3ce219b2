//! A node without FUSE: secrets are files of a memory file system, and the node says what that means.

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::{until, until_shown};
use secretd_tests::node::Node;

/// Gives the sandbox a /dev that has what containers need, and no fuse.
const DEV_WITHOUT_FUSE: &str = "
    set -e
    mkdir \"$T/dev\"
    mount -t tmpfs -o mode=0755 dev \"$T/dev\"
    for node in null zero full random urandom tty ptmx; do cp -a /dev/$node \"$T/dev/\"; done
    mkdir \"$T/dev/pts\" \"$T/dev/shm\"
    mount --move \"$T/dev\" /dev
    mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts";

fn cluster() -> Result<Node> {
    let mut node = Node::stopped()?;
    let prepared = node.in_sandbox(DEV_WITHOUT_FUSE)?;
    ensure!(prepared.status.success(), "{prepared:?}");
    node.start_daemon()?;
    node.init()?;
    Ok(node)
}

#[test]
fn secrets_are_delivered_and_rotated_without_fuse() -> Result<()> {
    let node = cluster()?;
    node.ok_with(&["secret", "create", "pw", "-"], b"one")?;
    node.ok_with(&["secret", "create", "key", "-"], b"key")?;

    node.create_service(&[
        "--name",
        "app",
        "--secret",
        "pw",
        "--secret",
        "source=key,target=alias,uid=33,gid=33,mode=0400",
        "busybox:1",
        "sleep",
        "1000",
    ])?;
    node.create_service(&["--name", "other", "busybox:1", "sleep", "1000"])?;

    ensure!(node.ok(&["exec", "app.1", "cat", "/run/secrets/pw"])? == "one");
    let attributes = node.ok(&["exec", "app.1", "stat", "-c", "%a %u %g %s", "/run/secrets/alias"])?;
    ensure!(attributes == "400 33 33 3", "{attributes}");
    let foreign = node.sctl(&["exec", "other.1", "ls", "/run/secrets"], b"")?;
    ensure!(foreign.code() != 0, "{foreign:?}");
    let write = node.sctl(&["exec", "app.1", "sh", "-c", "echo x > /run/secrets/pw"], b"")?;
    ensure!(write.code() != 0 && write.stderr.contains("Read-only"), "{write:?}");

    node.ok_with(&["secret", "update", "pw", "-"], b"two")?;
    until_shown(&node, &["exec", "app.1", "cat", "/run/secrets/pw"], |read| read == "two").map(drop)
}

#[test]
fn node_says_that_it_has_no_fuse_and_what_that_means() -> Result<()> {
    let node = cluster()?;

    let inspected = node.ok(&["node", "inspect", "self", "--format", "{{json .Description.Secrets}}"])?;
    let secrets: serde_json::Value = serde_json::from_str(&inspected)?;

    let backend = secrets["Backend"].as_str().context("backend")?;
    ensure!(["tmpfs", "ramfs"].contains(&backend), "{inspected}");
    let weaknesses = secrets["Weaknesses"].to_string();
    ensure!(weaknesses.contains("reads are not recorded"), "{inspected}");
    let info = node.ok(&["info"])?;
    ensure!(info.contains(&format!("Secret Backend: {backend}")), "{info}");
    Ok(())
}

#[test]
fn secrets_of_a_node_without_fuse_outlive_secretd_and_not_their_task() -> Result<()> {
    let mut node = cluster()?;
    node.ok_with(&["secret", "create", "pw", "-"], b"kept in memory")?;
    let script = "exec sleep 1000";
    node.create_service(&["--name", "app", "--secret", "pw", "--init", "busybox:1", "sh", "-c", script])?;

    node.kill_daemon()?;
    node.start_daemon()?;

    ensure!(node.ok(&["exec", "app.1", "cat", "/run/secrets/pw"])? == "kept in memory");
    node.ok(&["service", "rm", "app"])?;
    // The memory file system is as old as its shim.
    until("the shim ends", || Ok(node.shims().is_empty().then_some(())))
}
