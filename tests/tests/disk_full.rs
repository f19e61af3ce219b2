//! Disks of managers that are full, in each phase in which something is written: what needs space is refused with a word
//! about it, everything else goes on, and space that is freed is enough to go on with.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
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

/// A cluster of three, of which some have a small disk.
fn three_managers(small: &[usize]) -> Result<Lab> {
    let mut lab = Lab::start(3)?;
    for number in small {
        small_disk(&mut lab, *number)?;
    }
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

/// Fills the disk of a manager that follows, of n2 and n3: which one. It cannot come to lead, because that is written down.
fn fill_a_follower(lab: &Lab) -> Result<usize> {
    until("a manager that follows has a full disk", || {
        let follower = if lab.leader(1)? == 3 { 2 } else { 3 };
        fill(lab.node(follower))?;
        if lab.leader(1).is_ok_and(|leader| leader != follower) {
            return Ok(Some(follower));
        }
        free(lab.node(follower))?;
        Ok(None)
    })
}

/// Whether secretd has ended because of its disk, as its last line says.
fn has_ended(node: &Node) -> bool {
    let log = node.log();
    node.daemon_pid().is_err() && log.lines().last().is_some_and(|line| line.contains("the store has failed"))
}

/// What was found at a manager whose disk is full; nothing where it has ended meanwhile. An election asks it for a vote, and
/// a vote that cannot be written down ends it (docs/next.md): it says so, and nothing else is excused.
fn unless_ended<T>(node: &Node, found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            until("it has ended", || Ok(has_ended(node).then_some(None))).with_context(|| format!("{error:#}"))
        }
    }
}

/// Starts secretd where it has ended.
fn start_again(node: &mut Node) -> Result<()> {
    node.kill_daemon()?; // it is gone: this waits for it
    node.start_daemon()?;
    until_active(node)
}

/// Gives the manager `full` its space back, in which it catches up. It is the process that it was, unless it has ended.
fn give_space(
    lab: &mut Lab,
    full: usize,
    (before, stays): (Result<i32>, Option<i32>),
    catches_up: impl FnOnce(&Node) -> Result<String>,
) -> Result<()> {
    free(lab.node(full))?;
    match stays {
        Some(pid) => ensure!(pid == before?, "n{full} was started again\n{}", lab.node(full).log()),
        None => start_again(lab.node_mut(full))?,
    }
    let began = lab.node(full).daemon_pid()?;
    catches_up(lab.node(full))?;
    ensure!(lab.node(full).daemon_pid()? == began, "n{full} was started again\n{}", lab.node(full).log());
    Ok(())
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
    let mut lab = three_managers(&[2, 3])?;
    let stale = ["--stale", "secret", "ls", "--format", "{{.Name}}"];
    until_created(lab.node(1), "s0", b"x")?;
    for number in [2, 3] {
        until_shown(lab.node(number), &stale, |names| names == "s0")?;
    }
    let full = fill_a_follower(&lab)?;
    let before = lab.node(full).daemon_pid();

    // The majority goes on.
    for number in 1..=3 {
        until_created(lab.node(1), &format!("s{number}"), b"x")?;
    }
    let stays = || {
        shows(lab.node(full), ALL)?; // any manager answers
        let names = lab.node(full).ok(&stale)?;
        ensure!(names == "s0", "{names}");
        lab.node(full).daemon_pid()
    };
    let stays = unless_ended(lab.node(full), stays())?;

    give_space(&mut lab, full, (before, stays), |node| until_shown(node, &stale, |names| names == ALL))?;
    // Its vote counts again, with all that it has.
    lab.node_mut(5 - full).kill_daemon()?;
    until_created(lab.node(full), "s4", b"x")
}

/// What a leader with a full disk says and does, whichever manager is asked. There is a secret `s0`.
fn full_leader_answers(lab: &Lab) -> Result<()> {
    for asked in 1..=3 {
        let line = lab.node(asked).refused(1, &["secret", "create", "refused", "-"], &LARGEST)?;
        ensure!(line.contains("is full") && line.contains("free some space"), "n{asked}: {line}");
    }
    // Nothing of it is made.
    for asked in 1..=3 {
        shows(lab.node(asked), "s0")?;
    }
    // What frees space is taken.
    lab.node(2).ok(&["secret", "rm", "s0"])?;
    shows(lab.node(3), "")
}

/// Fills the disk of the manager that leads, asks, and frees it: which one that was. An election makes that worthless, since
/// whoever leads then has room: then its disk is the next one.
fn fill_the_leader(lab: &mut Lab) -> Result<usize> {
    for _ in 0..5 {
        let elections = lab.elections();
        until_created(lab.node(2), "s0", b"x")?;
        let leader = until("somebody leads", || lab.leader(2).map(Some))?;
        let before = lab.node(leader).daemon_pid()?;
        fill(lab.node(leader))?;
        let answered = full_leader_answers(lab);
        free(lab.node(leader))?;
        until_created(lab.node(3), "s1", &LARGEST)?;
        let went_on = lab.node(leader).daemon_pid().is_ok_and(|pid| pid == before);
        if answered.is_ok() && went_on && lab.elections() == elections {
            return Ok(leader);
        }

        let elected = until("another one leads", || Ok((lab.elections() > elections).then_some(())));
        elected.with_context(|| format!("{answered:?}\n{}", lab.node(leader).log()))?;
        if !went_on {
            until("it has ended", || Ok(has_ended(lab.node(leader)).then_some(())))?;
            start_again(lab.node_mut(leader))?;
        }
        for name in ["refused", "s0", "s1"] {
            until("it is as it was", || {
                let removed = lab.node(2).sctl(&["secret", "rm", name], b"")?;
                Ok([0, 5].contains(&removed.code()).then_some(()))
            })?;
        }
    }
    bail!("managers are elected again and again")
}

#[test]
fn leader_with_a_full_disk_says_so_keeps_answering_and_goes_on_when_there_is_space() -> Result<()> {
    let mut lab = three_managers(&[1, 2, 3])?;

    let lost = fill_the_leader(&mut lab)?;

    // One that can write nothing at all hinders nobody when it is lost.
    fill(lab.node(lost))?;
    lab.node_mut(lost).kill_daemon()?;
    until_created(lab.node(1 + lost % 3), "s2", &LARGEST)?;
    free(lab.node(lost))?;
    lab.node_mut(lost).start_daemon()?;
    let stale = ["--stale", "secret", "ls", "--format", "{{.Name}}"];
    until_shown(lab.node(lost), &stale, |names| names == "s1\ns2").map(drop)
}

#[test]
fn manager_whose_disk_has_no_room_for_a_snapshot_gets_it_when_there_is_space() -> Result<()> {
    let mut lab = three_managers(&[2, 3])?;
    let full = fill_a_follower(&lab)?;
    let before = lab.node(full).daemon_pid();
    // More than the log keeps, of changes and of bytes.
    let socket = lab.node(1).run_dir().join("control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(&socket).await?;
        for number in 0..620 {
            client.until_created(&format!("small-{number}"), b"x").await?;
        }
        for number in 0..10 {
            client.until_created(&format!("large-{number}"), &LARGEST).await?;
        }
        anyhow::Ok(())
    })?;
    let stays = || {
        let stale = lab.node(full).ok(&["--stale", "secret", "ls", "-q"])?;
        ensure!(stale.lines().count() < 630, "the disk was not full");
        lab.node(full).daemon_pid()
    };
    let stays = unless_ended(lab.node(full), stays())?;

    give_space(&mut lab, full, (before, stays), |node| {
        until_shown(node, &["--stale", "secret", "ls", "-q"], |ids| ids.lines().count() == 630)
    })
}

/// What the cluster has when the manager with a full disk has nothing but `s0`.
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
        let nodes = lab.node(1).ok(&["node", "ls", "-q"])?;
        ensure!(nodes.lines().count() == 1, "{role}: it was admitted, and knows nothing of it: {nodes}");
    }
    let rekey = lab.node(2).refused(1, &["node", "rekey", "--passphrase"], b"correct horse battery")?;
    ensure!(rekey.to_lowercase().contains("no space left"), "{rekey}");

    free(lab.node(2))?;
    lab.join(2, "manager")?;
    until_active(lab.node(2))?;
    ensure!(has(lab.node(2), "store/records.redb")?);
    fill(lab.node(2))?;
    let rekey = lab.node(2).refused(1, &["node", "rekey", "--passphrase"], b"correct horse battery");
    if let Some(rekey) = unless_ended(lab.node(2), rekey)? {
        ensure!(rekey.to_lowercase().contains("no space left"), "{rekey}");
    }
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
