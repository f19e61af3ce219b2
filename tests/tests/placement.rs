//! Where tasks run in a cluster of several nodes: constraints, preferences, limits, global services, drained and paused
//! nodes.

use anyhow::{Result, ensure};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;

const PS: [&str; 4] = ["-f", "desired-state=running", "--format", "{{.Name}} {{.Node}} {{.CurrentState}}"];

/// The nodes of a service's running tasks, sorted.
fn nodes(node: &Node, service: &str) -> Result<Vec<String>> {
    let rows = node.ok(&[&["service", "ps", service], PS.as_slice()].concat())?;
    let running = rows.lines().filter_map(|row| row.split_once(" Running")?.0.split_once(' ').map(|(_, node)| node));
    let mut nodes: Vec<String> = running.map(str::to_owned).collect();
    nodes.sort();
    Ok(nodes)
}

fn until_on(node: &Node, service: &str, wanted: &[&str]) -> Result<()> {
    until(&format!("{service} on {wanted:?}"), || Ok((nodes(node, service)? == wanted).then_some(())))
}

fn create(node: &Node, name: &str, flags: &[&str]) -> Result<String> {
    let first = ["--name", name, "--stop-signal", "KILL"];
    node.create_service(&[&first, flags, &["busybox:1", "sleep", "10000"]].concat())
}

#[test]
fn constraints_and_limits_decide_where_tasks_run_and_say_why_they_do_not() -> Result<()> {
    let lab = Lab::cluster(1, 2)?;
    let node = lab.node(1);
    node.ok(&["node", "update", "--label-add", "ssd=true", "n2"])?;

    create(node, "db", &["--constraint", "node.labels.ssd==true", "--replicas", "2"])?;
    ensure!(nodes(node, "db")? == ["n2", "n2"]);
    create(node, "web", &["--constraint", "node.role==worker", "--constraint", "node.hostname!=n2"])?;
    ensure!(nodes(node, "web")? == ["n3"]);
    create(node, "one", &["--replicas", "3", "--replicas-max-per-node", "1"])?;
    ensure!(nodes(node, "one")? == ["n1", "n2", "n3"]);

    // What finds no node waits, says why, and goes on when there is one.
    let flags = ["--detach", "--name", "none", "--constraint", "node.labels.gpu==yes", "busybox:1", "sleep", "10000"];
    node.ok(&[&["service", "create"], flags.as_slice()].concat())?;
    let shown = ["service", "ps", "none", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}"];
    let why = until_shown(node, &shown, |row| row.contains("no suitable node"))?;
    ensure!(why.contains("no suitable node (scheduling constraints not satisfied on 3 nodes)"), "{why}");
    node.ok(&["node", "update", "--label-add", "gpu=yes", "n1"])?;
    until_on(node, "none", &["n1"])?;
    let flags = ["--detach", "--name", "huge", "--reserve-memory", "900g", "busybox:1", "sleep", "10000"];
    node.ok(&[&["service", "create"], flags.as_slice()].concat())?;
    let shown = ["service", "ps", "huge", "--no-trunc", "--format", "{{.Error}}"];
    until_shown(node, &shown, |row| row.contains("insufficient resources on 3 nodes"))?;

    // A label that goes takes the tasks with it.
    node.ok(&["node", "update", "--label-rm", "ssd", "--label-add", "old=1", "n2"])?;
    until_on(node, "db", &[])?;
    node.ok(&["service", "update", "--detach", "--constraint-rm", "node.labels.ssd == true", "db"])?;
    until("db runs again", || Ok((nodes(node, "db")?.len() == 2).then_some(())))?;
    Ok(())
}

#[test]
fn wrong_rules_are_refused_before_anything_is_made() -> Result<()> {
    let lab = Lab::cluster(1, 0)?;
    let refused = |code: i32, flags: &[&str], words: &str| {
        let line = lab.node(1).refused(code, &[&["service", "create"], flags, &["busybox:1"]].concat(), b"")?;
        ensure!(line.contains(words), "{flags:?}: {line}");
        Ok(())
    };
    refused(1, &["--constraint", "node.role=manager"], "constraint expected one operator from ==, !=")?;
    refused(1, &["--constraint", "colour==red"], "key 'colour' is invalid")?;
    refused(2, &["--placement-pref", "pack=node.labels.a"], "only spread is supported")?;
    refused(1, &["--placement-pref", "spread=node.id"], "node.labels.KEY and engine.labels.KEY alone")?;
    refused(2, &["--mode", "global", "--replicas", "2"], "replicas can only be used with replicated mode")?;
    refused(1, &["--mode", "global", "--replicas-max-per-node", "2"], "can only be used with replicated services")?;
    ensure!(lab.node(1).ok(&["service", "ls", "-q"])?.is_empty());
    Ok(())
}

#[test]
fn tasks_are_spread_over_zones_before_nodes() -> Result<()> {
    let lab = Lab::cluster(1, 2)?;
    for (node, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        lab.node(1).ok(&["node", "update", "--label-add", &format!("zone={zone}"), node])?;
    }
    create(lab.node(1), "app", &["--replicas", "4", "--placement-pref", "spread=node.labels.zone"])?;

    ensure!(nodes(lab.node(1), "app")? == ["n1", "n2", "n3", "n3"], "{:?}", nodes(lab.node(1), "app")?);
    Ok(())
}

#[test]
fn drained_node_gives_its_tasks_away_and_paused_one_keeps_them() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let node = lab.node(1);
    create(node, "app", &["--replicas", "2"])?;
    ensure!(nodes(node, "app")? == ["n1", "n2"]);

    node.ok(&["node", "update", "--availability", "pause", "n2"])?;
    node.ok(&["service", "scale", "--detach", "app=4"])?;
    until_on(node, "app", &["n1", "n1", "n1", "n2"])?;
    node.ok(&["node", "update", "--availability", "drain", "n2"])?;
    until_on(node, "app", &["n1", "n1", "n1", "n1"])?;
    until("nothing runs on n2", || Ok(lab.node(2).shims().is_empty().then_some(())))?;

    // A node that is back gets new tasks, and takes none from others.
    node.ok(&["node", "update", "--availability", "active", "n2"])?;
    node.ok(&["service", "scale", "--detach", "app=6"])?;
    until_on(node, "app", &["n1", "n1", "n1", "n1", "n2", "n2"])
}

#[test]
fn global_service_has_a_task_on_each_node_as_nodes_come_and_go() -> Result<()> {
    let lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.import_busybox()?;
    lab.join(2, "worker")?;
    let node = lab.node(1);
    create(node, "agent", &["--mode", "global"])?;
    ensure!(nodes(node, "agent")? == ["n1", "n2"]);

    lab.join(3, "worker")?;
    until_on(node, "agent", &["n1", "n2", "n3"])?;
    node.ok(&["node", "update", "--availability", "drain", "n2"])?;
    until_on(node, "agent", &["n1", "n3"])?;
    let row = node.ok(&["service", "ls", "--format", "{{.Mode}} {{.Replicas}}"])?;
    ensure!(row == "global 2/2", "{row}");
    node.ok(&["service", "update", "--update-monitor", "0s", "--constraint-add", "node.role==manager", "agent"])?;
    until_on(node, "agent", &["n1"])?;
    let scaled = node.refused(1, &["service", "scale", "agent=3"], b"")?;
    ensure!(scaled.contains("scale can only be used with replicated mode"), "{scaled}");
    Ok(())
}
