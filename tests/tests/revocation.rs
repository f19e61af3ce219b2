//! Revocation: a secret that is removed by force is gone from running containers at once, open files included.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::until;
use secretd_tests::node::Node;

/// A node with an image that has the probe, and a service that will not end when it is asked to.
fn node_with_stubborn_service() -> Result<Node> {
    let node = Node::cluster()?;
    node.import_probe()?;
    for name in ["leaked", "kept"] {
        node.ok_with(&["secret", "create", name, "-"], format!("value of {name}").as_bytes())?;
    }
    // What is kept comes after what goes, in each kind of place.
    let targets = ["leaked", "source=leaked,target=/etc/leaked", "kept", "source=kept,target=/etc/kept"];
    let secrets = targets.map(|target| ["--secret", target]).concat();
    let flags = ["--name", "app", "--stop-grace-period", "100s"];
    // As its namespace's first process sleep ignores SIGTERM.
    node.create_service(&[&flags[..], &secrets, &["probe:1", "sleep", "1000"]].concat())?;
    Ok(node)
}

/// A process in the container that has a file open.
struct Holder {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn open(node: &Node, path: &str) -> Result<Self> {
        let mut process = node
            .sctl_command(&["exec", "-i", "app.1", "probe", "hold", path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take().context("stdin")?;
        let lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let mut holder = Self { process, stdin, lines };
        let first = holder.next()?;
        ensure!(first.starts_with("read value of"), "{first}");
        Ok(holder)
    }

    fn next(&mut self) -> Result<String> {
        Ok(self.lines.next().context("the holder has ended")??)
    }

    /// What the open file gives now.
    fn read(&mut self) -> Result<String> {
        writeln!(self.stdin)?;
        self.next()
    }

    fn end(mut self) -> Result<()> {
        drop(self.stdin);
        self.process.wait()?;
        Ok(())
    }
}

#[test]
fn secret_removed_by_force_is_gone_from_open_files_at_once() -> Result<()> {
    let node = node_with_stubborn_service()?;
    let mut leaked = Holder::open(&node, "/run/secrets/leaked")?;
    let mut absolute = Holder::open(&node, "/etc/leaked")?;
    let mut kept = Holder::open(&node, "/run/secrets/kept")?;
    let mut kept_absolute = Holder::open(&node, "/etc/kept")?;
    let mut watcher = node
        .sctl_command(&["exec", "app.1", "probe", "watch", "/run/secrets/leaked"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut events = BufReader::new(watcher.stdout.take().context("stdout")?).lines();
    ensure!(events.next().context("the watcher")?? == "watching");
    let refusal = node.refused(4, &["secret", "rm", "leaked"], b"")?;
    ensure!(refusal.contains("app"), "{refusal}");
    let pid = *node.processes("sleep").first().context("the container's process")?;

    node.ok(&["secret", "rm", "--force", "leaked"])?;

    // The command returns when the cluster has it; the node hears of it within moments, and no read is answered after.
    until("the open files are not readable", || {
        Ok((leaked.read()? == "error 13" && absolute.read()? == "error 13").then_some(()))
    })?;
    ensure!(kept.read()? == "read value of kept", "what was not removed stays");
    ensure!(kept_absolute.read()? == "read value of kept");
    ensure!(node.processes("sleep").contains(&pid), "the container itself goes on");
    let task = node.ok(&["service", "inspect", "--format", "{{json .Spec}}", "app"])?;
    ensure!(task.contains("kept") && !task.contains("leaked"), "{task}");
    for holder in [leaked, absolute, kept, kept_absolute] {
        holder.end()?;
    }
    // The kernel tells of a file's end when nobody has it open any more.
    ensure!(events.map_while(std::result::Result::ok).any(|line| line.contains("IN_DELETE_SELF")), "no event");
    watcher.kill()?;
    watcher.wait()?;
    Ok(())
}
