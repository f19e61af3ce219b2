//! Bad input by hand: one line that says what and why, the right exit code, and nothing half made.

use anyhow::{Result, ensure};
use secretd_tests::node::Node;

/// Nothing of a service or a secret is left.
fn nothing_left(node: &Node) -> Result<()> {
    ensure!(node.ok(&["service", "ls", "-q"])?.is_empty() && node.ok(&["secret", "ls", "-q"])?.is_empty());
    let tasks = std::fs::read_dir(node.run_dir().join("tasks"))?.count();
    ensure!(tasks == 0, "{tasks} tasks in the run directory");
    Ok(())
}

#[test]
fn names_follow_their_rules() -> Result<()> {
    let node = Node::cluster()?;
    for name in ["-a", "a-", "a b", "a/b", &"a".repeat(65)] {
        let line = node.refused(1, &["secret", "create", "--", name, "-"], b"x")?;
        ensure!(line.contains("invalid secret name") && line.contains("64"), "{line}");
    }
    let service = node.refused(1, &["service", "create", "--name", "a.b", "busybox:1"], b"")?;
    ensure!(service.contains("DNS name component"), "{service}");
    nothing_left(&node)
}

#[test]
fn taken_name_is_a_conflict_and_the_first_is_untouched() -> Result<()> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "s", "-"], b"first")?;
    let before = node.ok(&["secret", "inspect", "s"])?;

    let line = node.refused(4, &["secret", "create", "s", "-"], b"second")?;

    ensure!(line.contains("secret s already exists"), "{line}");
    ensure!(node.ok(&["secret", "inspect", "s"])? == before);
    node.create_service(&["--name", "app", "--secret", "s", "busybox:1", "sleep", "1000"])?;
    ensure!(node.ok(&["exec", "app.1", "cat", "/run/secrets/s"])? == "first");
    let line = node.refused(4, &["service", "create", "--detach", "--name", "app", "busybox:1"], b"")?;
    ensure!(line.contains("app"), "{line}");
    Ok(())
}

#[test]
fn what_is_not_there_is_not_found() -> Result<()> {
    let node = Node::cluster()?;
    for arguments in [
        &["secret", "inspect", "none"][..],
        &["secret", "rm", "none"],
        &["service", "rm", "none"],
        &["service", "ps", "none"],
        &["service", "logs", "none"],
        &["exec", "none.1", "true"],
        &["image", "inspect", "none:1"],
        &["service", "create", "--name", "app", "--secret", "none", "busybox:1"],
    ] {
        let answer = node.sctl(arguments, b"")?;
        ensure!(answer.code() == 5 && answer.stderr.contains("none"), "{arguments:?}: {answer:?}");
    }
    nothing_left(&node)
}

#[test]
fn grants_that_cannot_be_are_refused_with_the_flag_named() -> Result<()> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "s", "-"], b"x")?;
    let create = |secrets: &[&str]| -> Result<(i32, String)> {
        let mut arguments = vec!["service", "create", "--detach", "--name", "app"];
        secrets.iter().for_each(|secret| arguments.extend(["--secret", secret]));
        arguments.push("busybox:1");
        let answer = node.sctl(&arguments, b"")?;
        Ok((answer.code(), answer.stderr))
    };

    for (secrets, word) in [
        (&["s", "source=s,target=/run/secrets/s"][..], "target"),
        (&["source=s,target=../etc/passwd"], "target"),
        (&["source=s,mode=999"], "mode"),
        (&["source=s,mode=1777"], "mode"),
        (&["source=s,uid=www-data"], "uid"),
        (&["source=s,color=red"], "color"),
    ] {
        let (code, line) = create(secrets)?;
        ensure!([1, 2].contains(&code) && line.contains(word), "{secrets:?}: {code} {line}");
    }
    ensure!(node.ok(&["service", "ls", "-q"])?.is_empty());
    Ok(())
}

#[test]
fn specification_that_is_too_large_is_refused_with_both_sizes() -> Result<()> {
    let node = Node::cluster()?;
    let file = node.path("variables");
    std::fs::write(&file, format!("LARGE={}\n", "x".repeat(300_000)))?;

    let create = ["service", "create", "--name", "app", "--env-file", &file.to_string_lossy(), "busybox:1"];
    let line = node.refused(1, &create, b"")?;

    ensure!(line.contains("300") && line.contains("at most 262144 are allowed"), "{line}");
    nothing_left(&node)
}

#[test]
fn task_that_cannot_be_prepared_says_why() -> Result<()> {
    let node = Node::cluster()?;
    for (name, image, command, word) in [
        ("noimage", "nosuch:1", "true", "No such image: nosuch:1"),
        ("nocommand", "busybox:1", "nosuch-command", "executable file not found in $PATH"),
        ("nofile", "busybox:1", "/etc/passwd", "permission denied"),
    ] {
        let arguments = ["service", "create", "--restart-condition", "none", "--name", name, image, command];
        let answer = node.sctl(&arguments, b"")?;
        ensure!(answer.code() == 1 && answer.stderr.contains(word), "{answer:?}");
        let ps = node.ok(&["service", "ps", "--no-trunc", name])?;
        ensure!(ps.contains("Rejected") && ps.contains(word), "{ps}");
        node.ok(&["service", "rm", name])?;
    }
    let bind = "type=bind,source=/nonexistent,target=/x";
    let answer = node.sctl(
        &["service", "create", "--restart-condition", "none", "--name", "nobind", "--mount", bind, "busybox:1"],
        b"",
    )?;
    ensure!(
        answer.code() == 1 && answer.stderr.contains("bind source path does not exist: /nonexistent"),
        "{answer:?}"
    );
    Ok(())
}

#[test]
fn daemon_that_is_not_there_or_not_initialized_says_what_to_do() -> Result<()> {
    let mut node = Node::start()?;
    let inactive = node.refused(1, &["secret", "ls"], b"")?;
    ensure!(inactive.contains("sctl cluster init"), "{inactive}");
    node.found()?;
    let again = node.refused(4, &["cluster", "init"], b"")?;
    ensure!(again.contains("this node is already part of a cluster"), "{again}");

    node.stop_daemon()?;
    let gone = node.refused(3, &["secret", "ls"], b"")?;

    ensure!(gone.contains("cannot reach secretd"), "{gone}");
    Ok(())
}

#[test]
fn second_daemon_on_the_same_directories_is_refused() -> Result<()> {
    let node = Node::start()?;
    let second = |data: &str, run: &str| -> Result<secretd_tests::command::Answer> {
        let mut command = node.sandbox().command(&secretd_tests::node::binary("secretd").to_string_lossy());
        command.arg("--data-dir").arg(node.path(data)).arg("--run-dir").arg(node.path(run));
        secretd_tests::command::run(&mut command, b"")
    };

    let data = second("d", "other")?;
    let socket = second("other", "r")?;

    ensure!(data.code() == 1 && data.stderr.contains("is used by another secretd"), "{data:?}");
    ensure!(socket.code() == 1 && socket.stderr.contains("control.sock is in use by another process"), "{socket:?}");
    node.ok(&["version"])?;
    Ok(())
}
