//! The nodes' side of a cluster, by stories of the real binaries: what is told of them, what goes on without a manager,
//! and that a secret is where a task has it, and nowhere else.

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;
use secretd_tests::secret_fs::held;

/// Whether a node shows this row among its nodes: `n4 Ready`.
fn until_listed(node: &Node, row: &str) -> Result<()> {
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"];
    until_shown(node, &nodes, |rows| rows.lines().any(|line| line == row)).map(drop)
}

/// Waits until n4 is shown as one whose connection has ended, or, where another manager has come to lead since there were so
/// many `elections`, as one that has not come to that one.
fn until_disconnected(lab: &Lab, asked: usize, elections: usize) -> Result<()> {
    let gone = "disconnected its connection has ended";
    let unheard = "unknown it has not come to the manager that leads now";
    let status = ["node", "inspect", "n4", "--format", "{{.Status.State}} {{.Status.Message}}"];
    until_shown(lab.node(asked), &status, |status| {
        status.starts_with(gone) || (status.starts_with(unheard) && lab.elections() > elections)
    })?;
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"];
    let rows = until_shown(lab.node(asked), &nodes, |rows| {
        let has = |row: &str| rows.lines().any(|line| line == row);
        has("n4 Disconnected") || (has("n4 Unknown") && lab.elections() > elections)
    });
    rows.map(drop)
}

/// A service of one task on a node, with the secret `key`.
fn create(asked: &Node, name: &str, host: &str, command: &[&str]) -> Result<()> {
    let place = format!("node.hostname=={host}");
    let flags = ["--name", name, "--secret", "key", "--constraint", &place, "--stop-signal", "KILL", "busybox:1"];
    asked.create_service(&[&flags[..], command].concat()).map(drop)
}

#[test]
fn node_is_ready_disconnected_unknown_or_down_and_the_list_says_which() -> Result<()> {
    let mut lab = Lab::start(4)?;
    lab.node(1).ok(&["cluster", "init", "--dispatcher-heartbeat", "15s"])?;
    for (number, role) in [(2, "manager"), (3, "manager"), (4, "worker")] {
        lab.join(number, role)?;
    }
    let leader = lab.leader(1)?;
    let other = if leader == 3 { 2 } else { 3 };
    until_listed(lab.node(other), "n4 Ready")?;

    // Its connection has ended, and there is time for it to come back.
    let elections = lab.elections();
    lab.node_mut(4).kill_daemon()?;
    until_disconnected(&lab, other, elections)?;
    lab.node_mut(4).start_daemon()?;
    until_listed(lab.node(other), "n4 Ready")?;

    // Nobody knows of it who leads now.
    lab.node_mut(4).kill_daemon()?;
    let leader = lab.leader(1)?;
    let other = if leader == 3 { 2 } else { 3 };
    lab.node_mut(leader).kill_daemon()?;
    until_listed(lab.node(other), "n4 Unknown")?;
    until_listed(lab.node(other), &format!("n{leader} Unknown"))?;
    lab.node_mut(4).start_daemon()?;
    until_listed(lab.node(other), "n4 Ready")?;

    // It does not come back within three heartbeats.
    lab.node(other).ok(&["cluster", "update", "--dispatcher-heartbeat", "1s"])?;
    lab.node_mut(4).kill_daemon()?;
    lab.node_mut(4).start_daemon()?; // it is told of the new period
    until_listed(lab.node(other), "n4 Ready")?;
    lab.node_mut(4).kill_daemon()?;
    until_listed(lab.node(other), "n4 Down")?;
    lab.node_mut(4).start_daemon()?;
    until_listed(lab.node(other), "n4 Ready")
}

/// The first process of the node's only container, once its program runs: a task runs a moment before that.
fn container(node: &Node) -> Result<i32> {
    let is_first = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        numbers.split_whitespace().last() == Some("1")
    };
    until("the container's program runs", || Ok(node.processes("sh").into_iter().find(is_first)))
}

/// What the node's containers have printed, as it lies on the node's disk.
fn printed(node: &Node) -> Result<String> {
    let mut text = String::new();
    for task in std::fs::read_dir(node.data_dir().join("logs"))? {
        for file in std::fs::read_dir(task?.path())? {
            text += &std::fs::read_to_string(file?.path())?;
        }
    }
    Ok(text)
}

#[test]
fn worker_that_starts_without_a_manager_leaves_containers_and_secrets_as_they_are() -> Result<()> {
    let mut lab = Lab::cluster(1, 1)?;
    lab.node(1).ok_with(&["secret", "create", "key", "-"], b"one")?;
    let script = "while :; do cat /run/secrets/key && echo .read || echo FAILED; sleep 0.05; done";
    create(lab.node(1), "app", "n2", &["sh", "-c", script])?;
    let task = lab.node(1).ok(&["service", "ps", "-q", "app"])?;
    let (process, held_before) = (container(lab.node(2))?, held(lab.node(2))?.tasks);
    ensure!(held_before.len() == 1, "{held_before:?}");

    lab.node_mut(1).kill_daemon()?;
    lab.node_mut(2).kill_daemon()?;
    lab.node_mut(2).start_daemon()?;

    ensure!(lab.node(2).log().contains("the agent has found no manager yet"));
    ensure!(container(lab.node(2))? == process, "it is another container");
    ensure!(held(lab.node(2))?.tasks == held_before, "secret-fs holds something else");
    let reads = |node: &Node| Ok::<_, anyhow::Error>(printed(node)?.matches("one.read").count());
    let so_far = reads(lab.node(2))?;
    until("the container reads on", || Ok((reads(lab.node(2))? > so_far + 5).then_some(())))?;
    ensure!(!printed(lab.node(2))?.contains("FAILED"), "a read has failed");

    // When there is a manager again it is the same task, and it is told what is new.
    lab.node_mut(1).start_daemon()?;
    until_listed(lab.node(1), "n2 Ready")?;
    lab.node(1).ok_with(&["secret", "update", "key", "-"], b"two")?;
    until("the new value is read", || Ok(printed(lab.node(2))?.contains("two.read").then_some(())))?;
    ensure!(container(lab.node(2))? == process && lab.node(1).ok(&["service", "ps", "-q", "app"])? == task);
    ensure!(!printed(lab.node(2))?.contains("FAILED"), "a read has failed");
    Ok(())
}

#[test]
fn container_that_ends_while_no_manager_is_there_is_replaced_when_one_is() -> Result<()> {
    let mut lab = Lab::cluster(1, 1)?;
    lab.node(1).ok_with(&["secret", "create", "key", "-"], b"one")?;
    create(lab.node(1), "app", "n2", &["sh", "-c", "while :; do sleep 1000; done"])?;
    let task = lab.node(1).ok(&["service", "ps", "-q", "app"])?;
    let process = container(lab.node(2))?;
    lab.node_mut(1).kill_daemon()?;
    lab.node_mut(2).kill_daemon()?;
    lab.node_mut(2).start_daemon()?;
    let process = rustix::process::Pid::from_raw(process).context("pid")?;
    rustix::process::kill_process(process, rustix::process::Signal::KILL)?;

    lab.node_mut(1).start_daemon()?;

    let tasks = ["service", "ps", "app", "--no-trunc", "--format", "{{.ID}} {{.CurrentState}} {{.Error}}"];
    let rows = until_shown(lab.node(1), &tasks, |rows| {
        rows.lines().any(|row| row.contains(" Running ") && !row.starts_with(&task[..12]))
    })?;
    let old = rows.lines().find(|row| row.contains(&task[..12])).context("the old task is gone")?;
    ensure!(old.contains("Failed") && old.contains("task: non-zero exit (137)"), "{rows}");
    Ok(())
}

#[test]
fn secret_is_held_where_a_task_has_it_and_goes_with_the_task() -> Result<()> {
    let lab = Lab::cluster(1, 2)?;
    let node = lab.node(1);
    node.ok_with(&["secret", "create", "key", "-"], b"0123456789")?;
    let secret = node.ok(&["secret", "inspect", "key", "--format", "{{.ID}}"])?;
    let grants = |number: usize| {
        let status = held(lab.node(number))?;
        let all = status.tasks.iter().flat_map(|task| task.grants.iter());
        let all: Vec<(String, u64, u64)> = all.map(|(id, version, epoch)| (id.to_string(), *version, *epoch)).collect();
        ensure!((status.payload_bytes == 0) == all.is_empty(), "n{number} holds {status:?}");
        Ok::<_, anyhow::Error>(all)
    };
    create(node, "app", "n2", &["sleep", "10000"])?;

    let first = grants(2)?;
    ensure!(matches!(&first[..], [(id, 1, _)] if *id == secret), "{first:?}");
    ensure!(grants(1)?.is_empty() && grants(3)?.is_empty(), "a node without a task holds it");

    // Another version is another grant, of a later epoch; the first one is held no more.
    node.ok_with(&["secret", "update", "key", "-"], b"9876543210")?;
    let second =
        until("version 2 is held", || Ok(Some(grants(2)?).filter(|all| all.iter().any(|grant| grant.1 == 2))))?;
    ensure!(second.len() == 1 && second[0].2 > first[0].2, "{first:?}, then {second:?}");
    until("one version is held", || Ok((held(lab.node(2))?.payload_bytes == 10).then_some(())))?;

    // The task moves, and takes the secret with it.
    let moved = ["--constraint-rm", "node.hostname==n2", "--constraint-add", "node.hostname==n3", "app"];
    node.ok(&[&["service", "update", "--update-monitor", "0s"], &moved[..]].concat())?;
    until("n3 holds it", || Ok((grants(3)?.len() == 1).then_some(())))?;
    until("n2 holds nothing", || Ok(grants(2)?.is_empty().then_some(())))?;

    // It is revoked while the container goes on.
    node.ok(&["service", "update", "--detach", "--restart-condition", "any", "app"])?;
    node.ok(&["secret", "rm", "--force", "key"])?;
    until("n3 holds nothing", || Ok(grants(3)?.is_empty().then_some(())))?;

    // A node that is thrown out loses what it has.
    node.ok_with(&["secret", "create", "key", "-"], b"again")?;
    create(node, "other", "n2", &["sleep", "10000"])?;
    ensure!(grants(2)?.len() == 1 && grants(3)?.is_empty());
    node.ok(&["node", "rm", "--force", "n2"])?;
    until("n2 holds nothing", || Ok(grants(2)?.is_empty().then_some(())))
}
