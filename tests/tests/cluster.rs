//! Several managers and workers: any of them answers, one may be lost, and nothing that was acknowledged is.

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::{Lab, until, until_created, until_demoted, until_shown, whoever_leads};
use secretd_tests::node::Node;
use secretd_tests::peer::rows_hold;

/// The nodes of a service's running tasks, sorted.
fn where_it_runs(node: &Node, service: &str) -> Result<Vec<String>> {
    let filter = ["-f", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}"];
    let rows = node.ok(&[&["service", "ps", service], filter.as_slice()].concat())?;
    let running = rows.lines().filter_map(|row| row.split_once(" Running").map(|(node, _)| node.to_owned()));
    let mut nodes: Vec<String> = running.collect();
    nodes.sort();
    Ok(nodes)
}

fn create(node: &Node, name: &str, replicas: &str, more: &[&str]) -> Result<String> {
    let first = ["--name", name, "--replicas", replicas, "--stop-signal", "KILL"];
    node.create_service(&[&first, more, &["busybox:1", "sleep", "10000"]].concat())
}

#[test]
fn any_manager_answers_and_secrets_reach_every_node() -> Result<()> {
    let lab = Lab::cluster(3, 1)?;
    until_created(lab.node(3), "psql-pw", b"hunter2")?;
    create(lab.node(2), "app", "4", &["--secret", "psql-pw"])?;

    for manager in 1..=3 {
        let node = lab.node(manager);
        ensure!(where_it_runs(node, "app")? == ["n1", "n2", "n3", "n4"], "asked n{manager}");
        for slot in 1..=4 {
            let read = node.ok(&["exec", &format!("app.{slot}"), "cat", "/run/secrets/psql-pw"])?;
            ensure!(read == "hunter2", "asked n{manager} for app.{slot}: {read}");
        }
    }
    let worker = lab.node(4).refused(1, &["secret", "ls"], b"")?;
    ensure!(worker.contains("worker nodes can't be used to view or modify cluster state"), "{worker}");
    let table = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    let wanted = "n1 Ready Reachable\nn2 Ready Reachable\nn3 Ready Reachable\nn4 Ready ";
    until_shown(lab.node(2), &table, |rows| whoever_leads(rows, wanted)).map(drop)
}

#[test]
fn secret_that_rotates_is_seen_on_every_node() -> Result<()> {
    let lab = Lab::cluster(1, 2)?;
    lab.node(1).ok_with(&["secret", "create", "key", "-"], b"one")?;
    create(lab.node(1), "app", "3", &["--secret", "key"])?;

    lab.node(1).ok_with(&["secret", "update", "key", "-"], b"two")?;

    for slot in 1..=3 {
        let task = format!("app.{slot}");
        until_shown(lab.node(1), &["exec", &task, "cat", "/run/secrets/key"], |read| read == "two")?;
    }
    lab.node(1).ok(&["secret", "rm", "--force", "key"])?;
    for slot in 1..=3 {
        until("the secret is gone", || {
            let read = lab.node(1).sctl(&["exec", &format!("app.{slot}"), "cat", "/run/secrets/key"], b"")?;
            Ok((read.code() == 1).then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn lost_leader_is_replaced_and_its_tasks_run_elsewhere() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    create(lab.node(1), "app", "3", &[])?;
    let lost = lab.leader(2)?;
    let other = if lost == 1 { 2 } else { 1 };
    lab.node_mut(lost).kill_daemon()?;

    // The first write after the loss waits for the next leader, and is not refused.
    lab.node(other).ok_with(&["secret", "create", "after", "-"], b"x")?;

    let name = format!("n{lost}");
    until("its tasks run elsewhere", || {
        let nodes = where_it_runs(lab.node(other), "app")?;
        Ok((nodes.len() == 3 && !nodes.contains(&name)).then_some(()))
    })?;
    let table = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    until_shown(lab.node(other), &table, |rows| rows.contains(&format!("{name} Down Unreachable")))?;
    ensure!(!lab.node(lost).shims().is_empty(), "its containers have ended with secretd");

    lab.node_mut(lost).start_daemon()?;
    until_shown(lab.node(lost), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "after")?;
    until("it has stopped its old tasks", || Ok(lab.node(lost).shims().is_empty().then_some(())))?;
    until_shown(lab.node(lost), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    Ok(())
}

#[test]
fn without_a_majority_calls_say_what_is_missing_and_containers_go_on() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    until_created(lab.node(1), "before", b"x")?;
    create(lab.node(1), "app", "3", &[])?;
    // A shim has children for moments.
    let three = || Ok((lab.nodes().iter().map(|node| node.shims().len()).sum::<usize>() == 3).then_some(()));
    until("three containers run", three)?;
    for lost in [2, 3] {
        lab.node_mut(lost).kill_daemon()?;
    }

    let write = lab.node(1).refused(3, &["secret", "create", "after", "-"], b"x")?;
    let read = lab.node(1).refused(3, &["secret", "ls"], b"")?;
    let token = lab.node(1).refused(3, &["cluster", "join-token", "worker"], b"")?;

    for line in [&write, &read, &token] {
        let missing = [2, 3].iter().any(|lost| line.contains(lab.address(*lost)));
        ensure!(line.contains("1 of 3 managers answer, 2 are needed") && missing, "{line}");
    }
    until("the three containers go on", || {
        Ok((lab.nodes().iter().map(|node| node.shims().len()).sum::<usize>() == 3).then_some(()))
    })?;
    until_shown(lab.node(1), &["info"], |info| {
        info.contains(" Error: 1 of 3 managers answer, 2 are needed") && info.contains("may be out of date")
    })?;
    let stale = lab.node(1).sctl(&["--stale", "secret", "ls", "--format", "{{.Name}}"], b"")?;
    ensure!(stale.stdout == "before\n" && stale.stderr.contains("may be out of date"), "{stale:?}");

    lab.node_mut(2).start_daemon()?;
    until_shown(lab.node(1), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "before")?;
    for number in [1, 2] {
        let is_well = |info: &str| !info.contains(" Error: ") && !info.contains(" Stale: ");
        until_shown(lab.node(number), &["info"], is_well)?;
    }
    until_created(lab.node(2), "after", b"x")?;
    rows_hold("without_a_majority_calls_say_what_is_missing_and_containers_go_on")
}

#[test]
fn manager_without_a_majority_leaves_all_the_same_and_says_what_the_others_do_not_know() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    for lost in [1, 2] {
        lab.node_mut(lost).kill_daemon()?;
    }

    let left = lab.node(3).sctl(&["cluster", "leave", "--force"], b"")?;

    ensure!(left.code() == 0 && left.stdout == "Node left the cluster.\n", "{left:?}");
    ensure!(left.stderr.contains("a majority of the managers does not answer"), "{left:?}");
    ensure!(!lab.node(3).data_dir().join("store").exists());
    // A node is told, when it leaves, and nothing else is said.
    for lost in [1, 2] {
        lab.node_mut(lost).start_daemon()?;
    }
    until_demoted(lab.node(1), "n3")?;
    let quiet = lab.node(2).sctl(&["cluster", "leave", "--force"], b"")?;
    ensure!(quiet.code() == 0 && quiet.stderr.is_empty(), "{quiet:?}");
    Ok(())
}

#[test]
fn removed_manager_that_asks_again_and_again_is_on_record_once() -> Result<()> {
    let lab = Lab::cluster(3, 0)?;
    // One that leads takes itself for the leader still when it is back, and asks nobody for a vote.
    let number = if lab.leader(1)? == 3 { 2 } else { 3 };
    let (name, gone) = (format!("n{number}"), lab.id(number)?);
    let filter = format!("name={name}");
    lab.cut(number)?;
    until_demoted(lab.node(1), &name)?;
    let status = ["node", "ls", "-f", &filter, "--format", "{{.Status}}"];
    until_shown(lab.node(1), &status, |status| status.contains("Down"))?;
    lab.node(1).ok(&["node", "rm", &name])?;

    lab.heal(number)?;

    let refusals = |node: &Node, path: &str| {
        let log = node.log();
        log.lines().filter(|line| line.contains(path) && line.contains(&gone) && line.contains("node-removed")).count()
    };
    until("its votes are refused", || Ok((refusals(lab.node(1), "Raft/Vote") > 0).then_some(())))?;
    until("it was told that it is none", || {
        Ok((lab.node(number).log().matches("this node was removed from the cluster").count() > 1).then_some(()))
    })?;
    ensure!(refusals(lab.node(1), "Raft/Vote") == 1 && refusals(lab.node(1), "Dispatcher/Session") <= 1);
    Ok(())
}

#[test]
fn survivor_of_a_lost_majority_goes_on_alone_when_it_is_told_to() -> Result<()> {
    let mut lab = Lab::cluster(3, 1)?;
    until_created(lab.node(1), "kept", b"x")?;
    create(lab.node(1), "app", "4", &["--secret", "kept"])?;
    let early = lab.node(1).refused(4, &["cluster", "init", "--force-new-cluster"], b"")?;
    ensure!(early.contains("a majority of the managers answers"), "{early}");
    let worker = lab.node(4).refused(1, &["cluster", "init", "--force-new-cluster"], b"")?;
    ensure!(worker.contains("this node is not a cluster manager"), "{worker}");
    for lost in [1, 2] {
        lab.node_mut(lost).kill_daemon()?;
    }

    let told = lab.node(3).ok(&["cluster", "init", "--force-new-cluster"])?;

    ensure!(told.contains("is now a manager"), "{told}");
    ensure!(lab.node(3).ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");
    lab.node(3).ok_with(&["secret", "create", "after", "-"], b"x")?;
    let rows = lab.node(3).ok(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
    ensure!(rows == "n1 \nn2 \nn3 Leader\nn4 ", "{rows}");
    // What ran on the lost managers runs where there are nodes.
    until("four tasks run on n3 and n4", || {
        let nodes = where_it_runs(lab.node(3), "app")?;
        Ok((nodes.len() == 4 && nodes.iter().all(|node| node == "n3" || node == "n4")).then_some(()))
    })?;
    ensure!(lab.node(3).ok(&["exec", "app.1", "cat", "/run/secrets/kept"])? == "x");

    // It is that manager's cluster after a restart too, and those that were lost come in as new nodes.
    lab.node_mut(3).stop_daemon()?;
    lab.node_mut(3).start_daemon()?;
    lab.node(3).ok(&["secret", "ls"])?;
    lab.node_mut(1).start_daemon()?;
    lab.node(1).ok(&["cluster", "leave", "--force"])?;
    let token = lab.node(3).ok(&["cluster", "join-token", "-q", "manager"])?;
    lab.node(1).ok(&["cluster", "join", "--token", &token, lab.address(3)])?;
    until_shown(lab.node(1), &["secret", "ls", "-q"], |ids| ids.lines().count() == 2)?;
    rows_hold("survivor_of_a_lost_majority_goes_on_alone_when_it_is_told_to")
}

#[test]
fn manager_cut_off_hears_of_everything_when_it_is_back() -> Result<()> {
    let lab = Lab::cluster(3, 0)?;
    let cut = lab.leader(1)?;
    let other = if cut == 1 { 2 } else { 1 };
    lab.cut(cut)?;

    until_created(lab.node(other), "meanwhile", b"x")?;
    let alone = lab.node(cut).refused(3, &["secret", "create", "alone", "-"], b"x")?;

    ensure!(alone.contains("managers"), "{alone}");
    // It takes itself for the leader still, but does not say that what it has not heard of is not there.
    let unheard = lab.node(cut).refused(3, &["secret", "rm", "meanwhile"], b"")?;
    ensure!(unheard.contains("managers"), "{unheard}");
    lab.heal(cut)?;
    until_shown(lab.node(cut), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "meanwhile")?;
    until_shown(lab.node(cut), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    Ok(())
}

#[test]
fn promoted_worker_keeps_the_cluster_alive_and_demoted_manager_holds_nothing() -> Result<()> {
    let mut lab = Lab::cluster(1, 2)?;
    let promoted = lab.node(1).ok(&["node", "promote", "n2", "n3"])?;
    ensure!(promoted == "Node n2 promoted to a manager in the cluster.\nNode n3 promoted to a manager in the cluster.");
    let rows = ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"];
    until_shown(lab.node(1), &rows, |rows| whoever_leads(rows, "n1 Reachable\nn2 Reachable\nn3 Reachable"))?;
    ensure!(lab.node(1).ok(&["node", "promote", "n2"])? == "Node n2 is already a manager.");
    for promoted in [2, 3] {
        until_shown(lab.node(promoted), &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| {
            state == "active"
        })?;
    }
    until_created(lab.node(2), "kept", b"x")?;

    // The leader demotes itself, through another.
    let demoted = lab.leader(2)?;
    let (second, third) = (1 + demoted % 3, 1 + (demoted + 1) % 3);
    let name = format!("n{demoted}");
    ensure!(lab.node(third).ok(&["node", "demote", &name])? == format!("Manager {name} demoted in the cluster."));
    until("it is a worker", || Ok((!lab.node(demoted).data_dir().join("store").exists()).then_some(())))?;
    until_shown(lab.node(third), &rows, |rows| {
        rows.contains("Leader") && rows.lines().any(|row| row == format!("{name} "))
    })?;
    let worker = lab.node(demoted).refused(1, &["secret", "ls"], b"")?;
    ensure!(worker.contains("worker nodes can't"), "{worker}");

    // It is promoted again, and serves as a manager that was never anything else.
    lab.node(second).ok(&["node", "promote", &name])?;
    until_shown(lab.node(demoted), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "kept")?;
    lab.node_mut(third).kill_daemon()?;
    until_created(lab.node(demoted), "more", b"x")
}

#[test]
fn one_of_two_managers_is_demoted_and_promoted_again_and_again() -> Result<()> {
    let lab = Lab::cluster(2, 0)?;
    for round in 0..5 {
        until_demoted(lab.node(1), "n2")?;
        // The other one needs nobody from then on, and nothing that the demoted one had is missed.
        until_created(lab.node(1), &format!("s{round}"), b"x")?;
        until("n2 is a worker", || Ok((!lab.node(2).data_dir().join("store").exists()).then_some(())))?;
        lab.node(1).ok(&["node", "promote", "n2"])?;
        until_shown(lab.node(2), &["secret", "ls", "-q"], |ids| ids.lines().count() == round + 1)?;
    }
    Ok(())
}

#[test]
fn leader_of_two_leaves_or_is_demoted_and_the_other_needs_it_no_more() -> Result<()> {
    for command in [&["cluster", "leave", "--force"][..], &["node", "demote", "self"]] {
        let mut lab = Lab::cluster(2, 0)?;
        let leader = lab.leader(1)?;
        let other = 3 - leader;
        let gone = lab.node(leader).sctl(command, b"")?;
        if gone.stderr.contains("its vote counts still") && gone.code() == 3 {
            until_demoted(lab.node(other), &format!("n{leader}"))?; // as it says: the other one has been slow
        } else {
            ensure!(gone.status.success() && gone.stderr.is_empty(), "{command:?}: {gone:?}");
        }
        lab.node_mut(leader).kill_daemon()?;

        until_created(lab.node(other), "after", b"x").with_context(|| format!("{command:?}"))?;
    }
    Ok(())
}

#[test]
fn calls_at_a_leader_that_is_demoted_are_answered_until_it_is_a_worker() -> Result<()> {
    let lab = Lab::cluster(3, 0)?;
    let leader = lab.leader(1)?;
    let other = 1 + leader % 3;
    let mut demoting = lab.node(other).sctl_command(&["node", "demote", &format!("n{leader}")]).spawn()?;
    let mut written = 0;
    let last = loop {
        let answer = lab.node(leader).sctl(&["secret", "create", &format!("s{written}"), "-"], b"x")?;
        if !answer.status.success() {
            break answer;
        }
        written += 1;
    };
    let demoted = demoting.wait()?;
    ensure!(demoted.success() || demoted.code() == Some(3), "{demoted}");
    // Its manager may end, or be replaced, while a call is under way.
    let reasons = [
        "this node is not a cluster manager",
        "is not known",
        "ended the connection",
        "leads: repeat the command",
        "no manager leads",
        "no other one leads",
        "is stopping",
    ];
    ensure!(reasons.iter().any(|reason| last.stderr.contains(reason)), "after {written}: {last:?}");
    let names = lab.node(other).ok(&["secret", "ls", "-q"])?;
    ensure!(
        (written..=written + 1).contains(&names.lines().count()),
        "{written} were acknowledged, and there are {names}"
    );
    Ok(())
}

#[test]
fn last_manager_is_neither_demoted_nor_lets_itself_be_taken_away_by_mistake() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let demote = lab.node(1).refused(4, &["node", "demote", "n1"], b"")?;
    ensure!(demote.contains("attempting to demote the last manager of the cluster"), "{demote}");
    let leave = lab.node(1).refused(4, &["cluster", "leave"], b"")?;
    ensure!(
        leave.contains("removing the last manager erases all current state of the cluster: use --force"),
        "{leave}"
    );
    let remove = lab.node(1).refused(4, &["node", "rm", "n1"], b"")?;
    ensure!(remove.contains("demote it with \"sctl node demote n1\""), "{remove}");
    let ready = lab.node(1).refused(4, &["node", "rm", "n2"], b"")?;
    ensure!(ready.contains("node n2 is not down and can't be removed"), "{ready}");

    lab.node(1).ok(&["cluster", "leave", "--force"])?;

    let gone = lab.node(1).refused(1, &["node", "ls"], b"")?;
    ensure!(gone.contains("use \"sctl cluster init\" or \"sctl cluster join\""), "{gone}");
    ensure!(!lab.node(1).data_dir().join("store").exists());
    lab.node(1).ok(&["cluster", "init"])?;
    rows_hold("last_manager_is_neither_demoted_nor_lets_itself_be_taken_away_by_mistake")
}

#[test]
fn managers_that_leave_take_their_votes_with_them() -> Result<()> {
    let lab = Lab::cluster(3, 0)?;
    for leaving in [3, 2] {
        let warned = lab.node(leaving).refused(4, &["cluster", "leave"], b"")?;
        ensure!(warned.contains("participating as a manager"), "{warned}");
        ensure!(lab.node(leaving).ok(&["cluster", "leave", "--force"])? == "Node left the cluster.");
        // Those who stay need no vote of the one that left.
        until_created(lab.node(1), &format!("without-{leaving}"), b"x")?;
        let state = lab.node(leaving).ok(&["info", "--format", "{{.Cluster.LocalNodeState}}"])?;
        ensure!(state == "inactive", "{state}");
    }
    let rows = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    until_shown(lab.node(1), &rows, |rows| rows == "n1 Ready Leader\nn2 Down \nn3 Down ")?;
    lab.node(1).ok(&["node", "rm", "n2", "n3"])?;
    lab.join(2, "worker")
}

#[test]
fn worker_that_leaves_ends_its_tasks_and_comes_back_as_another_node() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    create(lab.node(1), "app", "2", &[])?;
    ensure!(where_it_runs(lab.node(1), "app")? == ["n1", "n2"]);
    let before = lab.id(2)?;

    lab.node(2).ok(&["cluster", "leave"])?;

    ensure!(lab.node(2).shims().is_empty(), "its containers go on");
    until("both run on n1", || Ok((where_it_runs(lab.node(1), "app")? == ["n1", "n1"]).then_some(())))?;
    lab.join(2, "worker")?;
    ensure!(lab.id(2)? != before);
    let rows = lab.node(1).ok(&["node", "ls", "-f", "name=n2", "--format", "{{.Status}}"])?;
    ensure!(rows.lines().count() == 2, "{rows}");
    Ok(())
}

#[test]
fn removed_node_is_refused_at_once_and_loses_what_it_had() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    lab.node(1).ok_with(&["secret", "create", "key", "-"], b"x")?;
    create(lab.node(1), "app", "2", &["--secret", "key"])?;
    until("n2 has one container", || Ok((lab.node(2).shims().len() == 1).then_some(())))?; // a shim has children for moments

    lab.node(1).ok(&["node", "rm", "--force", "n2"])?;

    until("its containers end", || Ok(lab.node(2).shims().is_empty().then_some(())))?;
    until("what is wanted runs on n1", || Ok((where_it_runs(lab.node(1), "app")? == ["n1", "n1"]).then_some(())))?;
    ensure!(lab.node(1).log().contains("node-removed"), "the refusal is not on record");
    let info = until_shown(lab.node(2), &["info"], |info| info.contains("it is no node of this cluster (any more)"))?;
    ensure!(info.contains("Cluster: pending"), "{info}");
    let again = lab.node(2).refused(4, &["cluster", "join", "--token", &lab.token("worker")?, lab.address(1)], b"")?;
    ensure!(again.contains("this node is already part of a cluster"), "{again}");
    lab.node(2).ok(&["cluster", "leave"])?;
    lab.join(2, "worker")?;
    rows_hold("removed_node_is_refused_at_once_and_loses_what_it_had")
}
