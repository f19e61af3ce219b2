//! What a restart of secretd or of secret-fs changes in a container: nothing.

use anyhow::{Context, Result, ensure};
use secretd_tests::campaign::pause;
use secretd_tests::lab::{until, until_shown};
use secretd_tests::node::Node;

fn cluster() -> Result<Node> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "s", "-"], b"one")?;
    let script =
        "trap 'exit 0' TERM; echo started; while :; do cat /run/secrets/s >/dev/null || echo FAILED; sleep 0.05; done";
    node.create_service(&["--name", "app", "--replicas", "3", "--secret", "s", "busybox:1", "sh", "-c", script])?;
    // A task runs a moment before its program does: until then its first process is still the one that becomes it.
    until_shown(&node, &["service", "logs", "--raw", "app"], |logs| logs.matches("started").count() == 3)?;
    Ok(node)
}

/// The containers' first processes: the shell forks before each command, and such a child is none.
fn first_processes(node: &Node) -> Vec<i32> {
    let is_first = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        numbers.split_whitespace().last() == Some("1")
    };
    node.processes("sh").into_iter().filter(is_first).collect()
}

#[test]
fn killed_secretd_adopts_every_container_and_nothing_in_them_notices() -> Result<()> {
    let mut node = cluster()?;
    let (tasks, processes) = (node.ok(&["service", "ps", "-q", "app"])?, first_processes(&node));
    ensure!(processes.len() == 3, "{processes:?}");

    for round in 0..3 {
        node.kill_daemon()?;
        node.start_daemon()?;

        ensure!(node.ok(&["service", "ps", "-q", "app"])? == tasks, "round {round}");
        ensure!(first_processes(&node) == processes, "round {round}");
        node.ok_with(&["secret", "update", "s", "-"], format!("after {round}").as_bytes())?;
        let after = format!("after {round}");
        until_shown(&node, &["exec", "app.2", "cat", "/run/secrets/s"], |value| value == after)?;
    }
    let logs = node.ok(&["service", "logs", "--raw", "app"])?;
    ensure!(!logs.contains("FAILED") && logs.matches("started").count() == 3, "{logs}");
    node.ok(&["service", "scale", "app=1"])?;
    node.ok(&["service", "rm", "app"])?;
    Ok(())
}

#[test]
fn clean_stop_of_secretd_leaves_containers_running() -> Result<()> {
    let mut node = cluster()?;
    let processes = first_processes(&node);

    node.stop_daemon()?;
    ensure!(first_processes(&node) == processes);
    node.start_daemon()?;

    ensure!(first_processes(&node) == processes);
    ensure!(node.ok(&["exec", "app.1", "cat", "/run/secrets/s"])? == "one");
    Ok(())
}

#[test]
fn stop_of_a_node_without_containers_leaves_nothing_behind() -> Result<()> {
    let mut node = Node::cluster()?;
    node.ok_with(&["secret", "create", "s", "-"], b"one")?;
    let flags = ["--name", "app", "--secret", "s", "--stop-signal", "KILL"];
    node.create_service(&[&flags[..], &["busybox:1", "sleep", "1000"]].concat())?;
    let groups = node.control_groups();
    ensure!(groups.len() > 1, "{groups:?}");
    node.ok(&["service", "rm", "app"])?;
    until("the container's groups are gone", || Ok((node.control_groups().len() <= groups.len() / 2).then_some(())))?;

    node.stop_daemon()?;

    ensure!(node.control_groups().is_empty(), "{:?}", node.control_groups());
    until("secret-fs has ended", || Ok(node.processes("secret-fs").is_empty().then_some(())))
}

#[test]
fn killed_secret_fs_is_back_and_new_opens_work() -> Result<()> {
    let node = cluster()?;
    let tasks = node.ok(&["service", "ps", "-q", "app"])?;
    let pid = *node.processes("secret-fs").first().context("secret-fs")?;

    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).context("pid")?, rustix::process::Signal::KILL)?;
    let script = "until [ \"$(cat /run/secrets/s 2>/dev/null)\" = one ]; do sleep 0.05; done";
    for task in ["app.1", "app.2", "app.3"] {
        node.ok(&["exec", task, "timeout", "60", "sh", "-c", script])?;
    }

    ensure!(node.processes("secret-fs") != [pid], "secret-fs was not killed");
    ensure!(node.ok(&["service", "ps", "-q", "app"])? == tasks);
    node.ok_with(&["secret", "update", "s", "-"], b"two")?;
    until_shown(&node, &["exec", "app.1", "cat", "/run/secrets/s"], |value| value == "two")?;
    Ok(())
}

#[test]
fn acknowledged_secrets_survive_kill_9_at_any_instant() -> Result<()> {
    let mut node = Node::cluster()?;
    let mut acknowledged = Vec::new();

    for round in 0..5 {
        // A client writes until the daemon is gone; what it was told is there must be there.
        let writer = std::thread::scope(|scope| -> Result<Vec<String>> {
            let base = &node;
            let handle = scope.spawn(move || {
                let mut written = Vec::new();
                for number in 0.. {
                    let name = format!("r{round}-{number}");
                    match base.sctl(&["secret", "create", &name, "-"], name.as_bytes()) {
                        Ok(answer) if answer.status.success() => written.push(name),
                        _ => break,
                    }
                }
                written
            });
            // Some writes in, at an instant that differs from round to round.
            while base.ok(&["secret", "ls", "-q"]).map_or(0, |list| list.lines().count())
                < acknowledged.len() + 3 + round
            {
                ensure!(!handle.is_finished(), "a write was refused\n{}", base.log());
                pause();
            }
            for pid in base.processes("secretd") {
                let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
                match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {} // it may have ended by itself
                    Err(error) => return Err(error.into()),
                }
            }
            handle.join().map_err(|_| anyhow::anyhow!("the writer panicked"))
        })?;
        acknowledged.extend(writer);
        node.kill_daemon().ok();
        node.start_daemon()?;

        let names = node.ok(&["secret", "ls", "--format", "{{.Name}}"])?;
        for name in &acknowledged {
            ensure!(names.lines().any(|line| line == name), "round {round}: {name} was acknowledged and is lost");
        }
    }
    Ok(())
}
