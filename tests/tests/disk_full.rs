//! Disks of managers that are full, in each phase in which something is written: what needs space is refused with a word
//! about it, everything else goes on, and space that is freed is enough to go on with.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use secretd_tests::client::Client;
use secretd_tests::lab::{Lab, until, until_created, until_shown};
use secretd_tests::node::Node;

static LARGEST: [u8; 512_000] = [7; 512_000];

/// Gives a node a data directory that is a file system of its own, of 64 MiB.
fn small_disk(lab: &mut Lab, number: usize) -> Result<()> {
    lab.node_mut(number).stop_daemon()?;
    std::fs::remove_dir_all(lab.node(number).data_dir())?;
    std::fs::create_dir(lab.node(number).data_dir())?;
    script(lab.node(number), "mount -t tmpfs -o size=64m,mode=0700 small \"$D\"")?;
    lab.node_mut(number).start_daemon()
}

/// A cluster of three, of which one has a small disk.
fn three_managers(small: usize) -> Result<Lab> {
    let mut lab = Lab::start(3)?;
    small_disk(&mut lab, small)?;
    lab.node(1).ok(&["cluster", "init"])?;
    for number in [2, 3] {
        lab.join(number, "manager")?;
        until_active(lab.node(number))?;
    }
    Ok(lab)
}

fn script(node: &Node, script: &str) -> Result<()> {
    let answer = node.in_sandbox(script)?;
    ensure!(answer.status.success(), "{script}: {answer:?}");
    Ok(())
}

/// Takes all the space that there is.
fn fill(node: &Node) -> Result<()> {
    let full = node.in_sandbox("cat /dev/zero >> \"$D/fill\"")?;
    ensure!(full.stderr.contains("No space left"), "{full:?}");
    Ok(())
}

fn free(node: &Node) -> Result<()> {
    script(node, "rm \"$D/fill\"")
}

fn shows(node: &Node, names: &str) -> Result<()> {
    until_shown(node, &["secret", "ls", "--format", "{{.Name}}"], |shown| shown == names).map(drop)
}

/// What is where the node's small disk is, which nobody else sees.
fn has(node: &Node, name: &str) -> Result<bool> {
    Ok(node.in_sandbox(&format!("test -e \"$D/{name}\""))?.status.success())
}

#[test]
fn manager_that_follows_with_a_full_disk_stays_and_catches_up_when_there_is_space() -> Result<()> {
    let mut lab = three_managers(3)?;
    let before = lab.node(3).daemon_pid()?;
    until_created(lab.node(1), "s0", b"x")?;
    until_shown(lab.node(3), &["--stale", "secret", "ls", "--format", "{{.Name}}"], |names| names == "s0")?;
    fill(lab.node(3))?;

    // The majority goes on.
    for number in 1..=3 {
        until_created(lab.node(1), &format!("s{number}"), b"x")?;
    }
    shows(lab.node(3), ALL)?; // any manager answers
    let stale = lab.node(3).ok(&["--stale", "secret", "ls", "--format", "{{.Name}}"])?;
    ensure!(stale == "s0", "{stale}");
    ensure!(lab.node(3).daemon_pid()? == before, "n3 has ended\n{}", lab.node(3).log());

    free(lab.node(3))?;
    until_shown(lab.node(3), &["--stale", "secret", "ls", "--format", "{{.Name}}"], |names| names == ALL)?;
    ensure!(lab.node(3).daemon_pid()? == before, "n3 was started again");
    // Its vote counts again, with all that it has.
    lab.node_mut(2).kill_daemon()?;
    until_created(lab.node(3), "s4", b"x")
}

#[test]
fn leader_with_a_full_disk_says_so_keeps_answering_and_goes_on_when_there_is_space() -> Result<()> {
    let mut lab = three_managers(1)?;
    until_created(lab.node(2), "s0", b"x")?;
    until("n1 leads", || Ok((lab.leader(2)? == 1).then_some(())))?;
    let before = lab.node(1).daemon_pid()?;
    fill(lab.node(1))?;

    // Whichever manager is asked, and nothing of it is made.
    for asked in 1..=3 {
        let line = lab.node(asked).refused(1, &["secret", "create", "refused", "-"], &LARGEST)?;
        ensure!(line.contains("is full") && line.contains("free some space"), "n{asked}: {line}");
    }
    for asked in 1..=3 {
        shows(lab.node(asked), "s0")?;
    }
    // What frees space is taken.
    lab.node(2).ok(&["secret", "rm", "s0"])?;
    shows(lab.node(3), "")?;

    free(lab.node(1))?;
    until_created(lab.node(3), "s1", &LARGEST)?;
    ensure!(lab.node(1).daemon_pid()? == before, "n1 was started again\n{}", lab.node(1).log());

    // One that can write nothing at all hinders nobody when it is lost.
    fill(lab.node(1))?;
    lab.node_mut(1).kill_daemon()?;
    until_created(lab.node(2), "s2", &LARGEST)?;
    free(lab.node(1))?;
    lab.node_mut(1).start_daemon()?;
    until_shown(lab.node(1), &["--stale", "secret", "ls", "--format", "{{.Name}}"], |names| names == "s1\ns2").map(drop)
}

#[test]
fn manager_whose_disk_has_no_room_for_a_snapshot_gets_it_when_there_is_space() -> Result<()> {
    let lab = three_managers(3)?;
    let before = lab.node(3).daemon_pid()?;
    fill(lab.node(3))?;
    // More than the log keeps, of changes and of bytes.
    let socket = lab.node(1).run_dir().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(&socket).await?;
        for number in 0..620 {
            client.create_secret(&format!("small-{number}"), b"x").await?;
        }
        for number in 0..10 {
            client.create_secret(&format!("large-{number}"), &LARGEST).await?;
        }
        anyhow::Ok(())
    })?;
    let stale = lab.node(3).ok(&["--stale", "secret", "ls", "-q"])?;
    ensure!(stale.lines().count() < 630, "the disk was not full");
    ensure!(lab.node(3).daemon_pid()? == before, "n3 has ended\n{}", lab.node(3).log());

    free(lab.node(3))?;
    until_shown(lab.node(3), &["--stale", "secret", "ls", "-q"], |ids| ids.lines().count() == 630)?;
    ensure!(lab.node(3).daemon_pid()? == before, "n3 was started again\n{}", lab.node(3).log());
    Ok(())
}

/// What the cluster has when the third manager has nothing but `s0`.
const ALL: &str = "s0\ns1\ns2\ns3";

fn until_active(node: &Node) -> Result<()> {
    until_shown(node, &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| state == "active").map(drop)
}

#[test]
fn node_with_a_full_disk_neither_joins_nor_changes_its_keys_until_there_is_space() -> Result<()> {
    let mut lab = Lab::start(2)?;
    small_disk(&mut lab, 2)?;
    lab.node(1).ok(&["cluster", "init"])?;
    fill(lab.node(2))?;
    for role in ["worker", "manager"] {
        let token = lab.token(role)?;
        let arguments = ["cluster", "join", "--token", &token, lab.address(1)];
        let line = lab.node(2).refused(1, &arguments, b"")?;
        ensure!(line.to_lowercase().contains("no space left") || line.contains("is full"), "{role}: {line}");
        let state = lab.node(2).ok(&["info", "--format", "{{.Cluster.LocalNodeState}}"])?;
        ensure!(state == "inactive", "{role}: {state}");
    }
    let rekey = lab.node(2).refused(1, &["node", "rekey", "--passphrase"], b"correct horse battery")?;
    ensure!(rekey.to_lowercase().contains("no space left"), "{rekey}");

    free(lab.node(2))?;
    lab.join(2, "manager")?;
    until_active(lab.node(2))?;
    ensure!(has(lab.node(2), "store/records.redb")?);
    fill(lab.node(2))?;
    let rekey = lab.node(2).refused(1, &["node", "rekey", "--passphrase"], b"correct horse battery")?;
    ensure!(rekey.to_lowercase().contains("no space left"), "{rekey}");
    free(lab.node(2))?;
    lab.node_mut(2).kill_daemon()?;
    lab.node_mut(2).start_daemon()?; // by the key that it had
    until_active(lab.node(2))
}

#[test]
fn backup_and_restore_on_a_full_disk_leave_nothing() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    until_created(&node, "large", &LARGEST)?;
    script(&node, "mkdir \"$T/small\" && mount -t tmpfs -o size=100k small \"$T/small\"")?;
    let small = node.path("small/backup");
    // sctl is run where the file system is.
    let mut sctl = node.sandbox().command(&secretd_tests::node::binary("sctl").to_string_lossy());
    sctl.env("SCTL_HOST", format!("unix://{}", node.socket().display())).args(["cluster", "backup"]).arg(&small);
    let answer = secretd_tests::command::run(&mut sctl, b"")?;
    ensure!(answer.code() == 1 && answer.stderr.to_lowercase().contains("no space left"), "{answer:?}");
    let left = node.in_sandbox("ls -A \"$T/small\"")?;
    ensure!(left.stdout.is_empty(), "{left:?}");

    let file = node.path("backup");
    node.ok_with(&["cluster", "backup", "--passphrase", &shown(&file)?], b"correct horse battery")?;
    let mut lab = Lab::start(1)?;
    small_disk(&mut lab, 1)?;
    fill(lab.node(1))?;
    let restore = ["cluster", "restore", &shown(&file)?].map(str::to_owned);
    let restore = restore.each_ref().map(String::as_str);
    let line = lab.node(1).refused(1, &restore, b"correct horse battery")?;
    ensure!(line.contains("is full") || line.to_lowercase().contains("no space left"), "{line}");
    for name in ["store", "restoring", "membership"] {
        ensure!(!has(lab.node(1), name)?, "{name} is left");
    }
    free(lab.node(1))?;
    lab.node(1).ok_with(&restore, b"correct horse battery")?;
    shows(lab.node(1), "large")
}

fn shown(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path")
}
