//! Where tasks run in a cluster of several nodes: constraints, preferences, limits, global services, drained and paused
//! nodes.

use anyhow::{Result, ensure};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;
use secretd_tests::peer::rows_hold;

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
    refused(1, &["--constraint", "node.ip==10.0.0.1"], "key 'node.ip' is invalid")?;
    refused(1, &["--constraint", "node.labels.==red"], "key 'node.labels.' is invalid")?;
    refused(1, &["--constraint", "node.role==a;b"], "value 'a;b' is invalid")?;
    refused(1, &["--constraint", "node.role=="], "value '' is invalid")?;
    refused(2, &["--replicas-max-per-node", "many"], "--replicas-max-per-node")?;
    refused(2, &["--placement-pref", "pack=node.labels.a"], "only spread is supported")?;
    refused(1, &["--placement-pref", "spread=node.id"], "node.labels.KEY and engine.labels.KEY alone")?;
    refused(2, &["--mode", "global", "--replicas", "2"], "replicas can only be used with replicated mode")?;
    refused(1, &["--mode", "global", "--replicas-max-per-node", "2"], "can only be used with replicated services")?;
    ensure!(lab.node(1).ok(&["service", "ls", "-q"])?.is_empty());
    rows_hold("wrong_rules_are_refused_before_anything_is_made")
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

#[test]
fn constraints_may_ask_for_everything_that_is_known_of_a_node() -> Result<()> {
    let lab = Lab::start_with(2, &["--label", "rack=7"])?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.join(2, "worker")?;
    lab.import_busybox()?;
    let node = lab.node(1);
    node.ok(&["node", "update", "--label-add", "zone=a", "n2"])?;
    let (id, elsewhere) = (format!("node.id=={}", lab.id(2)?), format!("node.id!={}", lab.id(1)?));
    for (number, constraint) in [
        &id,
        &elsewhere,
        "node.hostname==n2",
        "node.hostname != N1",
        "node.role==worker",
        "node.role!=manager",
        "node.labels.zone==A",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{number}");
        create(node, &name, &["--constraint", constraint])?;
        ensure!(nodes(node, &name)? == ["n2"], "{constraint}: {:?}", nodes(node, &name)?);
        node.ok(&["service", "rm", &name])?;
    }
    // What holds on both: one task on each.
    let both = ["engine.labels.rack==7", "engine.labels.rack!=8", "node.platform.os==linux", "node.labels.zone!=b"];
    let constraints: Vec<&str> = both.iter().flat_map(|constraint| ["--constraint", *constraint]).collect();
    create(node, "both", &[&["--mode", "global"], constraints.as_slice()].concat())?;
    ensure!(nodes(node, "both")? == ["n1", "n2"]);
    let machine = if cfg!(target_arch = "x86_64") { ["x86_64", "amd64"] } else { ["aarch64", "arm64"] };
    for (number, word) in machine.into_iter().enumerate() {
        let name = format!("arch{number}");
        create(node, &name, &["--mode", "global", "--constraint", &format!("node.platform.arch=={word}")])?;
        ensure!(nodes(node, &name)? == ["n1", "n2"], "{word}");
    }
    Ok(())
}

/// Creates a service whose tasks wait, and gives what they say.
fn waits(node: &Node, name: &str, flags: &[&str], says: &str) -> Result<()> {
    let first = ["service", "create", "--detach", "--name", name];
    node.ok(&[&first, flags, &["busybox:1", "sleep", "10000"]].concat())?;
    let shown = ["service", "ps", name, "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}"];
    until_shown(node, &shown, |rows| rows.lines().any(|row| row.starts_with("Pending ") && row.contains(says)))?;
    Ok(())
}

#[test]
fn task_that_waits_says_of_every_node_why() -> Result<()> {
    let lab = Lab::cluster(1, 2)?;
    let node = lab.node(1);
    waits(
        node,
        "one-each",
        &["--replicas", "4", "--replicas-max-per-node", "1"],
        "no suitable node (max replicas per node limit exceeded on 3 nodes)",
    )?;
    until_on(node, "one-each", &["n1", "n2", "n3"])?;
    // More than half of a node's processors: one task for each node, and the rest waits for one that ends.
    let processors: f64 = node.ok(&["info", "--format", "{{.NCPU}}"])?.parse()?;
    let reserve = format!("{}", processors * 0.6);
    let says = "no suitable node (insufficient resources on 3 nodes)";
    waits(node, "hungry", &["--replicas", "4", "--reserve-cpu", &reserve], says)?;
    until_on(node, "hungry", &["n1", "n2", "n3"])?;

    node.ok(&["node", "update", "--availability", "pause", "n3"])?;
    let says = "no suitable node (scheduling constraints not satisfied on 1 node; insufficient resources on 1 node; 1 node not available for new tasks)";
    waits(node, "all", &["--constraint", "node.role==worker", "--reserve-cpu", &reserve], says)?;
    node.ok(&["service", "rm", "hungry"])?;
    until_on(node, "all", &["n2"])?;
    node.ok(&["node", "update", "--availability", "drain", "n1"])?;
    node.ok(&["node", "update", "--availability", "drain", "n2"])?;
    let says = "no suitable node (3 nodes not available for new tasks)";
    waits(node, "none", &[], says)?;
    node.ok(&["node", "update", "--availability", "active", "n3"])?;
    until_on(node, "none", &["n3"])?;
    rows_hold("task_that_waits_says_of_every_node_why")
}
