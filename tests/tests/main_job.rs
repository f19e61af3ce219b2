//! The main job by hand, as the README tells it: create, grant, read, rotate, inspect, refuse, remove.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::until_shown;
use secretd_tests::node::Node;
use secretd_tests::rootfs;
use serde_json::Value;

/// A cluster whose image has the probe.
fn cluster_with_probe() -> Result<Node> {
    let node = Node::cluster()?;
    node.import_probe()?;
    Ok(node)
}

#[test]
fn secret_reaches_the_container_and_a_new_version_reaches_it_live() -> Result<()> {
    let node = Node::cluster()?;
    let key = node.path("key.pem");
    rootfs::write(&key, b"-----KEY-----\n")?;

    let id = node.ok_with(&["secret", "create", "psql-pw", "-"], b"pw\n")?;
    ensure!(id.len() == 25, "not an id: {id:?}");
    node.ok(&["secret", "create", "--label", "env=prod", "tls-key", &key.to_string_lossy()])?;
    node.create_service(&[
        "--name",
        "app",
        "--replicas",
        "2",
        "--secret",
        "psql-pw",
        "--secret",
        "source=tls-key,target=alias,uid=33,gid=33,mode=0400",
        "busybox:1",
        "sh",
        "-c",
        "cat /run/secrets/psql-pw; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    ])?;
    for task in ["app.1", "app.2"] {
        ensure!(node.ok(&["exec", task, "cat", "/run/secrets/psql-pw"])? == "pw");
        ensure!(node.ok(&["exec", task, "cat", "/run/secrets/alias"])? == "-----KEY-----");
        let listing =
            node.ok(&["exec", task, "stat", "-c", "%a %u %g %s", "/run/secrets/psql-pw", "/run/secrets/alias"])?;
        ensure!(listing == "444 0 0 3\n400 33 33 14", "{listing}");
    }
    ensure!(node.ok(&["service", "logs", "--raw", "app"])?.lines().filter(|line| *line == "pw").count() == 2);

    let before = node.ok(&["service", "ps", "-q", "app"])?;
    node.ok_with(&["secret", "update", "psql-pw", "-"], b"new\n")?;
    for task in ["app.1", "app.2"] {
        until_shown(&node, &["exec", task, "cat", "/run/secrets/psql-pw"], |read| read == "new")?;
    }
    ensure!(node.ok(&["service", "ps", "-q", "app"])? == before, "a rotation must replace no task");

    ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "psql-pw\ntls-key");
    let inspected: Value = serde_json::from_str(&node.ok(&["secret", "inspect", "psql-pw"])?)?;
    ensure!(inspected[0]["ID"] == id.as_str() && inspected[0]["Spec"]["Name"] == "psql-pw", "{inspected}");
    let refusal = node.refused(4, &["secret", "rm", "psql-pw"], b"")?;
    ensure!(refusal.contains("secret 'psql-pw' is in use by the following service: app"), "{refusal}");

    node.ok(&["service", "update", "--secret-rm", "tls-key", "--env-add", "A=b", "app"])?;
    ensure!(node.ok(&["exec", "app.1", "sh", "-c", "echo $A; ls /run/secrets"])? == "b\npsql-pw");
    node.ok(&["service", "scale", "app=3"])?;
    ensure!(node.ok(&["exec", "app.3", "cat", "/run/secrets/psql-pw"])? == "new");

    node.ok(&["service", "rm", "app"])?;
    node.ok(&["secret", "rm", "psql-pw"])?;
    node.ok(&["secret", "rm", "tls-key"])?;
    ensure!(node.ok(&["secret", "ls", "-q"])?.is_empty() && node.ok(&["service", "ls", "-q"])?.is_empty());
    Ok(())
}

#[test]
fn watchers_in_the_container_see_a_rotation_and_open_files_keep_their_version() -> Result<()> {
    let node = cluster_with_probe()?;
    node.ok_with(&["secret", "create", "token", "-"], b"one")?;
    node.create_service(&["--name", "app", "--secret", "token", "probe:1", "sleep", "1000"])?;
    let mut watcher = node
        .sctl_command(&["exec", "app.1", "probe", "watch", "/run/secrets/token"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut events = BufReader::new(watcher.stdout.take().context("stdout")?).lines();
    ensure!(events.next().context("watcher")?? == "watching");
    let mut holder = node
        .sctl_command(&["exec", "-i", "app.1", "probe", "hold", "/run/secrets/token"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut held = BufReader::new(holder.stdout.take().context("stdout")?).lines();
    ensure!(held.next().context("holder")?? == "read one");

    node.ok_with(&["secret", "update", "token", "-"], b"twice")?;

    let mut seen = Vec::new();
    while ![
        "file AddWatchFlags(IN_MODIFY)",
        "file AddWatchFlags(IN_CLOSE_WRITE)",
        "directory AddWatchFlags(IN_MOVED_TO)",
    ]
    .iter()
    .all(|wanted| seen.iter().any(|line: &String| line.starts_with(wanted)))
    {
        let line = events.next().with_context(|| format!("events so far: {seen:?}"))??;
        ensure!(line.contains("Ok(\"twice\")"), "an event before its bytes: {line}");
        seen.push(line);
    }
    let mut stdin = holder.stdin.take().context("stdin")?;
    writeln!(stdin)?;
    ensure!(held.next().context("holder")?? == "read one", "an open file must keep its version");
    drop(stdin);
    holder.wait()?;
    watcher.kill()?;
    watcher.wait()?;
    Ok(())
}

#[test]
fn targets_are_names_paths_and_absolute_paths_and_all_are_live() -> Result<()> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "s", "-"], b"one")?;
    node.create_service(&[
        "--name",
        "app",
        "--secret",
        "s",
        "--secret",
        "source=s,target=db/pw",
        "--secret",
        "source=s,target=/etc/app/pw,mode=0440,gid=1000",
        "busybox:1",
        "sleep",
        "1000",
    ])?;
    let read = ["exec", "app.1", "sh", "-c", "cat /run/secrets/s /run/secrets/db/pw /etc/app/pw"];
    ensure!(node.ok(&read)? == "oneoneone");
    ensure!(node.ok(&["exec", "app.1", "stat", "-c", "%a %g", "/etc/app/pw"])? == "440 1000");

    node.ok_with(&["secret", "update", "s", "-"], b"two")?;

    until_shown(&node, &read, |read| read == "twotwotwo")?;
    let write = node.sctl(&["exec", "app.1", "sh", "-c", "echo x > /etc/app/pw || echo x > /run/secrets/new"], b"")?;
    ensure!(write.code() == 1 && write.stderr.matches("Read-only file system").count() == 2, "{write:?}");
    Ok(())
}

#[test]
fn absolute_targets_may_lie_below_mounts_of_the_container() -> Result<()> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "key", "-"], b"one")?;
    node.create_service(&[
        "--name",
        "app",
        "--mount",
        "source=data,target=/data",
        "--mount",
        "type=tmpfs,target=/etc/app",
        "--secret",
        "source=key,target=/data/deep/key",
        "--secret",
        "source=key,target=/etc/app/key",
        "busybox:1",
        "sleep",
        "1000",
    ])?;

    let read = ["exec", "app.1", "cat", "/data/deep/key", "/etc/app/key"];
    ensure!(node.ok(&read)? == "oneone");
    node.ok_with(&["secret", "update", "key", "-"], b"two")?;
    until_shown(&node, &read, |read| read == "twotwo").map(drop)
}

#[test]
fn largest_secret_arrives_whole() -> Result<()> {
    let node = Node::cluster()?;
    let secret: Vec<u8> = (0..512_000_u32).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    node.ok_with(&["secret", "create", "big", "-"], &secret)?;
    node.create_service(&["--name", "app", "--secret", "big", "busybox:1", "sleep", "1000"])?;

    let mut command = node.sctl_command(&["exec", "app.1", "dd", "if=/run/secrets/big", "bs=1M", "count=1"]);
    let output = command.stdin(Stdio::null()).output()?;

    ensure!(output.stdout == secret, "{} bytes of 512000 in one read", output.stdout.len());
    Ok(())
}

#[test]
fn secret_of_no_or_too_many_bytes_is_refused_before_it_is_sent() -> Result<()> {
    let node = Node::cluster()?;

    let empty = node.refused(1, &["secret", "create", "a", "-"], b"")?;
    let large = node.refused(1, &["secret", "create", "a", "-"], &vec![b'x'; 512_001])?;

    ensure!(empty.contains("empty"), "{empty}");
    ensure!(large.contains("512001") && large.contains("512000"), "{large}");
    ensure!(node.ok(&["secret", "ls", "-q"])?.is_empty());
    node.ok_with(&["secret", "create", "a", "-"], &vec![b'x'; 512_000])?;
    Ok(())
}
