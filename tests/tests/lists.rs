//! What lists and summaries show, and what is told without a daemon.

use anyhow::{Result, ensure};
use secretd_tests::node::Node;

#[test]
fn tasks_are_listed_by_node_and_images_by_name() -> Result<()> {
    let node = Node::cluster()?;
    node.create_service(&["--name", "app", "--replicas", "2", "busybox:1", "sleep", "1000"])?;
    node.create_service(&["--name", "other", "busybox:1", "sleep", "1000"])?;
    node.ok(&["image", "tag", "busybox:1", "team/tools:2"])?;

    let id = node.ok(&["node", "ls", "-q"])?;
    let of_node = node.ok(&["node", "ps", "--format", "{{.Name}} {{.DesiredState}}"])?;
    let unresolved =
        node.ok(&["node", "ps", "--no-resolve", "--filter", "name=other", "--format", "{{.Node}}", &id])?;
    let named = node.ok(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "team/tools"])?;
    let quiet = node.ok(&["image", "ls", "-q"])?;

    ensure!(of_node == "app.1 Running\napp.2 Running\nother.1 Running", "{of_node}");
    ensure!(unresolved == id, "{unresolved} {id}");
    ensure!(named == "team/tools:2", "{named}");
    let filtered = |filter: &str| node.ok(&["image", "ls", "--filter", filter, "--format", "{{.Repository}}"]);
    ensure!(filtered("reference=team/*")? == "team/tools" && filtered("reference=busy*:1")? == "busybox");
    ensure!(filtered("dangling=true")?.is_empty() && filtered("label=none")?.is_empty());
    node.refused(1, &["image", "ls", "--filter", "colour=red"], b"")?;
    ensure!(quiet.len() == 12 && quiet.bytes().all(|byte| byte.is_ascii_hexdigit()), "{quiet}");
    ensure!(node.ok(&["info", "-f", "{{.Images}} {{.Cluster.TasksRunning}}"])? == "1 3");
    node.refused(5, &["node", "ps", "nowhere"], b"")?;
    Ok(())
}

#[test]
fn version_tells_its_own_part_without_a_daemon() -> Result<()> {
    let node = Node::stopped()?;

    let answer = node.sctl(&["version"], b"")?;
    let json = node.sctl(&["version", "--format", "json"], b"")?;

    ensure!(answer.code() == 3 && answer.stdout.starts_with("Client: "), "{answer:?}");
    ensure!(answer.stderr.contains("is secretd running?"), "{answer:?}");
    ensure!(json.stdout.contains(r#""Server":null"#) && json.stderr.starts_with(r#"{"error""#), "{json:?}");
    Ok(())
}

#[test]
fn cluster_init_waits_for_a_daemon_that_is_starting() -> Result<()> {
    let mut node = Node::stopped()?;
    let init = node
        .sctl_command(&["cluster", "init", "--listen-addr", node.address()])
        .stdout(std::process::Stdio::piped())
        .spawn()?;

    node.start_daemon()?;

    let output = init.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(String::from_utf8(output.stdout)?.starts_with("Cluster initialized"));
    Ok(())
}
