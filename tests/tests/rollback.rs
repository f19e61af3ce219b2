//! A data directory that is put back to an earlier copy is found out and refused: by the other managers, by workers, and
//! whatever the copy believes itself to be. What goes back on purpose is accepted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use secretd_tests::command::run;
use secretd_tests::lab::{Lab, until, until_created, until_demoted, until_shown};
use secretd_tests::node::Node;

/// What a backup of the machine, or a snapshot of its disk, would have.
const PARTS: &[&str] = &["store", "keys", "membership", "seen"];

fn copy(from: &Path, to: &Path, parts: &[&str]) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for part in parts {
        if to.join(part).is_dir() {
            std::fs::remove_dir_all(to.join(part))?;
        } else if to.join(part).exists() {
            std::fs::remove_file(to.join(part))?;
        }
        if from.join(part).exists() {
            let answer = run(Command::new("cp").arg("-a").arg(from.join(part)).arg(to), b"")?;
            ensure!(answer.status.success(), "{answer:?}");
        }
    }
    Ok(())
}

/// Keeps a copy of a stopped node's data.
fn put_aside(node: &Node) -> Result<()> {
    copy(&node.data_dir(), &node.path("aside"), PARTS)
}

/// Puts a stopped node's data back to the copy.
fn put_back(node: &Node, parts: &[&str]) -> Result<()> {
    copy(&node.path("aside"), &node.data_dir(), parts)
}

fn create(node: &Node, name: &str) -> Result<()> {
    node.ok_with(&["secret", "create", name, "-"], b"x").map(drop)
}

fn info(node: &Node) -> Result<String> {
    node.ok(&["info", "--format", "{{.Cluster.LocalNodeState}}: {{.Cluster.Error}}"])
}

fn until_refused(node: &Node) -> Result<String> {
    until_shown(node, &["info", "--format", "{{.Cluster.LocalNodeState}}: {{.Cluster.Error}}"], |info| {
        info.starts_with("error: this manager's data directory was rolled back: ")
    })
}

/// Puts a manager's data back to when there was a secret `first` and no `second`, and starts it.
fn go_back(lab: &mut Lab, number: usize) -> Result<()> {
    create(lab.node(number), "first")?;
    let names = ["--stale", "secret", "ls", "--format", "{{.Name}}"];
    until_shown(lab.node(number), &names, |names| names == "first")?;
    lab.node_mut(number).stop_daemon()?;
    put_aside(lab.node(number))?;
    lab.node_mut(number).start_daemon()?;
    create(lab.node(number), "second")?;
    lab.node_mut(number).stop_daemon()?;
    put_back(lab.node(number), PARTS)?;
    lab.node_mut(number).start_daemon()
}

/// The number of a manager that does not lead.
fn follower(lab: &Lab) -> Result<usize> {
    let leader = lab.leader(1)?;
    Ok(if leader == 3 { 2 } else { 3 })
}

#[test]
fn follower_that_went_back_takes_no_part_and_says_so_until_it_is_made_anew() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    let old = follower(&lab)?;
    let id = lab.id(old)?;
    go_back(&mut lab, old)?;

    let told = until_refused(lab.node(old))?;
    ensure!(told.contains("sctl node demote") && told.contains("has known its store at commit"), "{told}");
    let refused = lab.node(old).refused(1, &["secret", "ls"], b"")?;
    ensure!(refused.contains("was rolled back"), "{refused}");
    ensure!(lab.node(old).log().matches("this manager's data directory was rolled back").count() == 1);
    // The others go on, and show it; after another start it is the same.
    let asked = if old == 2 { 3 } else { 2 };
    create(lab.node(asked), "third")?;
    let fault = ["node", "inspect", &id, "--format", "{{.Description.Fault}} {{.ManagerStatus.Reachability}}"];
    until_shown(lab.node(asked), &fault, |fault| fault.contains("rolled back") && fault.ends_with(" unreachable"))?;
    lab.node_mut(old).stop_daemon()?;
    lab.node_mut(old).start_daemon()?;
    ensure!(info(lab.node(old))?.starts_with("error: this manager's data"), "{}", info(lab.node(old))?);

    let others = lab.node(old).refused(4, &["cluster", "init", "--force-new-cluster"], b"")?;
    ensure!(others.contains("a majority of the managers answers"), "{others}");
    until_demoted(lab.node(asked), &id)?;
    until("its store is gone", || Ok((!lab.node(old).data_dir().join("store").exists()).then_some(())))?;
    lab.node(asked).ok(&["node", "promote", &id])?;
    until_shown(lab.node(old), &["secret", "ls", "-q"], |ids| ids.lines().count() == 3)?;
    until_shown(lab.node(asked), &fault, |fault| fault == " reachable")?;
    Ok(())
}

#[test]
fn leader_that_went_back_is_found_out_though_every_manager_was_started_again() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    let old = lab.leader(1)?;
    lab.node_mut(old).stop_daemon()?;
    put_aside(lab.node(old))?;
    lab.node_mut(old).start_daemon()?;
    let id = lab.id(old)?;
    // It leads again, so that what it has acknowledged and voted for is its own.
    let others: Vec<usize> = (1..=3).filter(|number| *number != old).collect();
    for number in &others {
        lab.node_mut(*number).stop_daemon()?;
        until("it stands alone", || Ok(lab.node(old).ok(&["info"]).ok()))?;
        lab.node_mut(*number).start_daemon()?;
    }
    create(lab.node(old), "after")?;
    for number in 1..=3 {
        lab.node_mut(number).stop_daemon()?;
    }
    put_back(lab.node(old), PARTS)?;

    for number in 1..=3 {
        lab.node_mut(number).start_daemon()?;
    }

    until_refused(lab.node(old))?;
    let asked = others.first().copied().context("others")?;
    until_shown(lab.node(asked), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "after")?;
    let fault = ["node", "inspect", &id, "--format", "{{.Description.Fault}}"];
    until_shown(lab.node(asked), &fault, |fault| fault.contains("was rolled back"))?;
    // As its message says, one command after the other.
    until_demoted(lab.node(asked), &id)?;
    lab.node(asked).ok(&["node", "promote", &id])?;
    until_shown(lab.node(old), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "after")?;
    let manager = ["node", "inspect", &id, "--format", "{{.Description.Fault}}{{.ManagerStatus.Reachability}}"];
    until_shown(lab.node(asked), &manager, |shown| shown == "reachable")?;
    lab.node_mut(asked).kill_daemon()?;
    until_created(lab.node(old), "voted", b"x") // its vote counts
}

#[test]
fn manager_that_went_back_goes_on_alone_when_it_is_told_to_and_nobody_else_is_there() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    let old = follower(&lab)?;
    go_back(&mut lab, old)?;
    until_refused(lab.node(old))?;
    // Whichever of them it asks first: again and again, as it may ask another each time.
    for _ in 0..3 {
        lab.node(old).refused(4, &["cluster", "init", "--force-new-cluster"], b"")?;
    }
    for lost in (1..=3).filter(|number| *number != old) {
        lab.node_mut(lost).kill_daemon()?;
    }

    lab.node(old).ok(&["cluster", "init", "--force-new-cluster"])?;

    create(lab.node(old), "third")?;
    ensure!(lab.node(old).ok(&["secret", "ls", "--format", "{{.Name}}"])? == "first\nthird");
    lab.node_mut(old).stop_daemon()?;
    lab.node_mut(old).start_daemon()?;
    create(lab.node(old), "fourth")
}

#[test]
fn old_copy_with_an_even_older_follower_does_not_elect_itself() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    for number in [2, 3] {
        lab.node_mut(number).stop_daemon()?;
        if number == 3 {
            put_aside(lab.node(3))?;
        }
        lab.node_mut(number).start_daemon()?;
    }
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    // n2 hears of n3 while both are there, and misses the last change, which n1 and n3 have acknowledged.
    create(lab.node(3), "seen-by-all")?;
    lab.node_mut(2).stop_daemon()?;
    create(lab.node(1), "acknowledged")?;
    for number in [1, 3] {
        lab.node_mut(number).stop_daemon()?;
    }
    put_back(lab.node(3), PARTS)?;
    lab.node_mut(2).start_daemon()?;
    lab.node_mut(3).start_daemon()?;

    until_refused(lab.node(3))?;
    let alone = lab.node(2).refused(3, &["secret", "ls"], b"")?;
    ensure!(alone.contains("1 of 3 managers answer, 2 are needed"), "{alone}");
    lab.node_mut(1).start_daemon()?;
    until_shown(lab.node(2), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "acknowledged\nseen-by-all")?;
    Ok(())
}

#[test]
fn copy_from_when_a_manager_was_alone_does_not_serve_as_a_cluster_of_its_own() -> Result<()> {
    let mut lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init"])?;
    create(lab.node(1), "alone")?;
    lab.node_mut(1).stop_daemon()?;
    put_aside(lab.node(1))?;
    lab.node_mut(1).start_daemon()?;
    lab.join(2, "manager")?;
    lab.join(3, "manager")?;
    create(lab.node(2), "together")?;
    lab.node_mut(1).stop_daemon()?;
    put_back(lab.node(1), PARTS)?;

    lab.node_mut(1).start_daemon()?;

    until_refused(lab.node(1))?;
    let refused = lab.node(1).refused(1, &["secret", "create", "apart", "-"], b"x")?;
    ensure!(refused.contains("was rolled back"), "{refused}");
    create(lab.node(2), "after")?;
    // It knows no other manager, so it cannot be made anew from there.
    let id = lab.id(1)?;
    let refused = lab.node(1).refused(4, &["cluster", "leave"], b"")?;
    ensure!(refused.contains("count this node's vote until it is demoted") && refused.contains("--force"), "{refused}");
    let left = lab.node(1).sctl(&["cluster", "leave", "--force"], b"")?;
    ensure!(left.status.success() && left.stderr.contains("count this node's vote until it is demoted"), "{left:?}");
    until_demoted(lab.node(2), &id)?;
    let token = lab.node(2).ok(&["cluster", "join-token", "-q", "manager"])?;
    lab.node(1).ok(&["cluster", "join", "--token", &token, lab.address(2)])?;
    until_shown(lab.node(1), &["secret", "ls", "-q"], |ids| ids.lines().count() == 3)?;
    Ok(())
}

#[test]
fn only_manager_that_went_back_is_refused_by_its_workers_until_it_says_that_it_means_it() -> Result<()> {
    let mut lab = Lab::cluster(1, 1)?;
    create(lab.node(1), "first")?;
    lab.node_mut(1).stop_daemon()?;
    put_aside(lab.node(1))?;
    lab.node_mut(1).start_daemon()?;
    let start = ["--name", "app", "--mode", "global", "--stop-signal", "KILL", "busybox:1", "sleep", "100000"];
    lab.node(1).create_service(&start)?;
    create(lab.node(1), "second")?;
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady")?;
    lab.node_mut(1).stop_daemon()?;
    // The worker is off, so that the copy gets past what the worker has seen before they meet.
    lab.node_mut(2).stop_daemon()?;
    put_back(lab.node(1), PARTS)?;
    lab.node_mut(1).start_daemon()?;
    for number in 0..40 {
        create(lab.node(1), &format!("other-{number}"))?;
    }

    lab.node_mut(2).start_daemon()?;

    let doubt = "this node has seen a later state of this manager's store: was its data directory rolled back?";
    let state = ["info", "--format", "{{.Cluster.LocalNodeState}}: {{.Cluster.Error}}"];
    until_shown(lab.node(2), &state, |info| info.starts_with("pending: ") && info.contains(doubt))?;
    until_shown(lab.node(1), &state, |info| info.contains("has seen a later state of this manager's store"))?;
    // A shim has children for moments.
    until("its task goes on", || Ok((lab.node(2).shims().len() == 1).then_some(())))?;
    let rows = lab.node(1).ok(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
    ensure!(!rows.contains("n2 Ready"), "{rows}");
    ensure!(lab.node(1).log().matches("has seen a later state").count() == 1, "it is told again and again");

    // The operator means it: what the manager has counts from now on.
    lab.node(1).ok(&["cluster", "init", "--force-new-cluster"])?;
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady")?;
    until_shown(lab.node(2), &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| state == "active")?;
    ensure!(lab.node(1).ok(&["secret", "ls", "-q"])?.lines().count() == 41);
    // The old service is not known any more: its task ends.
    until("the task of what is gone ends", || Ok(lab.node(2).shims().is_empty().then_some(())))?;
    Ok(())
}

#[test]
fn manager_whose_store_alone_went_back_is_refused_by_its_own_node() -> Result<()> {
    let mut lab = Lab::cluster(1, 0)?;
    lab.node_mut(1).stop_daemon()?;
    put_aside(lab.node(1))?;
    lab.node_mut(1).start_daemon()?;
    create(lab.node(1), "second")?;
    lab.node_mut(1).stop_daemon()?;
    put_back(lab.node(1), &["store"])?;

    lab.node_mut(1).start_daemon()?;

    until_shown(lab.node(1), &["info", "--format", "{{.Cluster.Error}}"], |info| info.contains("rolled back?"))?;
    Ok(())
}

#[test]
fn manager_from_before_a_restore_is_refused_by_the_workers_of_the_restored_cluster() -> Result<()> {
    let mut lab = Lab::cluster(1, 1)?;
    create(lab.node(1), "kept")?;
    let file = lab.node(2).path("backup");
    let name = file.to_str().context("a path")?.to_owned();
    let printed = lab.node(1).ok(&["cluster", "backup", "-q", &name])?;
    create(lab.node(1), "later")?;
    lab.node_mut(1).stop_daemon()?;
    put_aside(lab.node(1))?;
    for part in PARTS {
        let path = lab.node(1).data_dir().join(part);
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    // Twice, as after a first attempt that was lost: both times the worker comes back.
    for attempt in 0..2 {
        lab.node_mut(1).start_daemon()?;
        if attempt == 1 {
            lab.node(1).ok(&["cluster", "leave", "--force"])?;
        }
        lab.node(1).ok_with(&["cluster", "restore", &name], printed.trim().as_bytes())?;
        let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}}"];
        until_shown(lab.node(1), &nodes, |nodes| nodes.contains("n2 Ready"))?;
        create(lab.node(1), &format!("since-{attempt}"))?;
        lab.node_mut(1).stop_daemon()?;
    }

    put_back(lab.node(1), PARTS)?;
    lab.node_mut(1).start_daemon()?;

    until_shown(lab.node(2), &["info", "--format", "{{.Cluster.Error}}"], |error| {
        error.contains("from before the cluster was restored")
    })?;
    Ok(())
}
