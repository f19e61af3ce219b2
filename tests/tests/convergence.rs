//! `service create` and `service update` end when the service is as it is wanted and has stayed so, or say why not.

use anyhow::{Result, ensure};
use secretd_tests::lab::until;
use secretd_tests::node::Node;

fn app(node: &Node, flags: &[&str]) -> Result<()> {
    node.create_service(&[&["--name", "app"], flags, &["busybox:1", "sleep", "1000"]].concat()).map(drop)
}

fn running(node: &Node) -> Result<String> {
    node.ok(&["service", "ps", "-q", "--filter", "desired-state=running", "app"])
}

#[test]
fn update_that_fails_is_paused_and_said_to_be() -> Result<()> {
    let node = Node::cluster()?;
    app(&node, &["--replicas", "2"])?;

    let update = ["service", "update", "--quiet", "--update-monitor", "5s", "--args", "sh -c 'exit 3'", "app"];
    let line = node.refused(1, &update, b"")?;

    ensure!(line.contains("service update paused: update paused due to failure"), "{line}");
    ensure!(line.contains("sctl service ps --no-trunc app"), "{line}");
    let state = node.ok(&["service", "inspect", "--format", "{{.UpdateStatus.State}}", "app"])?;
    ensure!(state == "paused", "{state}");
    Ok(())
}

#[test]
fn update_that_is_rolled_back_is_said_to_be_and_leaves_what_ran() -> Result<()> {
    let node = Node::cluster()?;
    app(&node, &["--replicas", "2", "--update-failure-action", "rollback"])?;
    let before = running(&node)?;
    let slot_2 = before.lines().nth(1).unwrap_or_default();

    let update = ["service", "update", "--quiet", "--update-monitor", "5s", "--args", "nosuch", "app"];
    let line = node.refused(1, &update, b"")?;

    ensure!(line.contains("service app was rolled back: update rolled back due to failure"), "{line}");
    let after = running(&node)?;
    ensure!(after.lines().count() == 2 && after.lines().any(|task| task == slot_2), "{before}\n{after}");
    let arguments =
        node.ok(&["service", "inspect", "--format", "{{json .Spec.TaskTemplate.ContainerSpec.Args}}", "app"])?;
    ensure!(arguments == r#"["sleep","1000"]"#, "{arguments}");
    Ok(())
}

#[test]
fn task_that_does_not_stay_up_fails_the_create() -> Result<()> {
    let node = Node::cluster()?;
    let flags = ["service", "create", "--quiet", "--restart-condition", "none", "--name", "app", "busybox:1"];

    let line = node.refused(1, &[&flags[..], &["sh", "-c", "sleep 1; exit 3"]].concat(), b"")?;

    ensure!(line.contains("task app.1 failed: task: non-zero exit (3)"), "{line}");
    Ok(())
}

#[test]
fn restarts_that_are_used_up_end_the_wait() -> Result<()> {
    let node = Node::cluster()?;
    let flags = ["--restart-max-attempts", "2", "--restart-delay", "0s", "--name", "app", "busybox:1", "sh", "-c"];

    let line = node.refused(1, &[&["service", "create", "--quiet"], &flags[..], &["exit 3"]].concat(), b"")?;

    ensure!(line.contains("task app.1 failed: task: non-zero exit (3)"), "{line}");
    Ok(())
}

#[test]
fn tasks_are_watched_for_the_monitoring_period() -> Result<()> {
    let node = Node::cluster()?;
    let flags = ["service", "create", "--update-monitor", "300ms", "--name", "app", "busybox:1", "sleep", "1000"];

    let start = std::time::Instant::now();
    let answer = node.sctl(&flags, b"")?;

    ensure!(answer.status.success() && start.elapsed() >= std::time::Duration::from_millis(300), "{answer:?}");
    ensure!(answer.stderr.contains("verify: waiting"), "{answer:?}");
    Ok(())
}

#[test]
fn refused_task_is_tried_again_when_its_delay_is_over_and_not_before() -> Result<()> {
    let node = Node::cluster()?;
    node.ok(&["service", "create", "--detach", "--restart-delay", "1h", "--name", "app", "nosuch:1"])?;
    let states = || node.ok(&["service", "ps", "--format", "{{.CurrentState}}", "app"]);
    until("it is refused twice", || Ok((states()?.matches("Rejected").count() >= 2).then_some(())))?;

    // Meanwhile another service comes up, which takes many times as long as a refusal.
    node.create_service(&["--name", "other", "--replicas", "5", "busybox:1", "sleep", "1000"])?;

    ensure!(states()?.lines().count() == 2, "{}", states()?);
    Ok(())
}
