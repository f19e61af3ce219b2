//! Calls to the disk that fail once, each place in turn, in nodes and clusters of the real binaries: what was acknowledged
//! is there afterwards, and nobody is told that something was done which was not.
//!
//! The store's own file is gone through call by call in `secretd-store`; here it is one of several files.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use secretd_tests::command::{Answer, run};
use secretd_tests::inject::{Place, Seen, Tracer, failing_command, watched_command};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;

const PASSPHRASE: &[u8] = b"correct horse battery";

/// The places where `scenario` changes the node's data directory.
fn places(node: &Node, scenario: impl FnOnce(&Node) -> Result<()>) -> Result<Vec<Place>> {
    let watching = Tracer::watch(node)?;
    scenario(node)?;
    let places = watching.end()?.places(&node.data_dir());
    ensure!(places.len() > 3, "{places:?}");
    Ok(places)
}

/// Has a call fail while `scenario` runs: what came of that, and whether the call was made.
fn failing(node: &Node, place: &Place, scenario: impl FnOnce(&Node) -> Result<Answer>) -> Result<(Answer, bool)> {
    let tracer = Tracer::fail(node, place, "EIO")?;
    let answer = scenario(node)?;
    Ok((answer, tracer.end()?.fired()))
}

/// A refusal is one line.
fn one_line(answer: &Answer) -> Result<()> {
    let line = answer.stderr.trim_end_matches('\n');
    ensure!(!line.is_empty() && !line.contains('\n'), "not one line: {answer:?}");
    Ok(())
}

fn restart(node: &mut Node) -> Result<()> {
    node.kill_daemon()?; // it may have ended by itself
    node.start_daemon()
}

fn state(node: &Node) -> Result<String> {
    node.ok(&["info", "--format", "{{.Cluster.LocalNodeState}}"])
}

#[test]
fn founding_of_which_a_call_fails_is_refused_and_can_be_done_again() -> Result<()> {
    let found = |node: &Node| node.found();
    let sites = places(&Node::start()?, found)?;
    let mut fired = 0;
    for place in &sites {
        let mut node = Node::start()?;
        let found = |node: &Node| node.sctl(&["cluster", "init", "--listen-addr", node.address()], b"");
        let (answer, has_fired) = failing(&node, place, found)?;
        fired += usize::from(has_fired);
        if answer.status.success() {
            ensure!(!has_fired || !place.call.contains("sync"), "{place}: {answer:?}");
        } else {
            one_line(&answer).with_context(|| place.to_string())?;
        }

        restart(&mut node).with_context(|| place.to_string())?;
        if answer.status.success() {
            ensure!(state(&node)? == "active", "{place}: it was founded, and is not there");
        } else if state(&node)? == "inactive" {
            node.found().with_context(|| place.to_string())?;
        }
        node.ok_with(&["secret", "create", "new", "-"], b"x").with_context(|| place.to_string())?;
    }
    ensure!(fired > sites.len() / 2, "{fired} of {} places were met", sites.len());
    Ok(())
}

#[test]
fn change_of_keys_of_which_a_call_fails_leaves_keys_that_open() -> Result<()> {
    let mut node = Node::start()?;
    node.found()?;
    node.ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let by_file: (&[&str], &[u8]) = (&["node", "rekey", "--file"], b"");
    let by_passphrase: (&[&str], &[u8]) = (&["node", "rekey", "--passphrase"], PASSPHRASE);
    for (to, back) in [(by_passphrase, by_file), (by_file, by_passphrase)] {
        node.ok_with(back.0, back.1)?;
        let sites = places(&node, |node| node.ok_with(to.0, to.1).map(drop))?;
        let mut fired = 0;
        for place in sites.iter().filter(|place| place.file.starts_with("keys")) {
            node.ok_with(back.0, back.1)?;
            let (answer, has_fired) = failing(&node, place, |node| node.sctl(to.0, to.1))?;
            fired += usize::from(has_fired);
            ensure!(!(answer.status.success() && has_fired), "{place}: {answer:?}");
            if has_fired {
                one_line(&answer).with_context(|| place.to_string())?;
            }
            // It goes on as if nothing had been.
            ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept", "{place}");

            restart(&mut node).with_context(|| place.to_string())?;
            if state(&node)? == "locked" {
                node.ok_with(&["cluster", "unlock"], PASSPHRASE).with_context(|| place.to_string())?;
            }
            let there = ["secret", "ls", "--format", "{{.Name}}"];
            until_shown(&node, &there, |names| names == "kept").with_context(|| place.to_string())?;
        }
        ensure!(fired > 4, "{fired} places were met");
    }
    Ok(())
}

#[test]
fn manager_of_which_a_call_fails_stops_and_the_others_take_over() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    let leader = lab.leader(1)?;
    let create = |node: &Node| node.ok_with(&["secret", "create", "first", "-"], b"x").map(drop);
    let sites = places(lab.node(leader), create)?;
    let mut acknowledged = vec!["first".to_owned()];
    let mut fired = 0;
    for (number, place) in sites.iter().filter(|place| place.file.starts_with("store")).enumerate() {
        for is_leader in [true, false] {
            let leader = lab.leader(1 + number % 3)?;
            let other = 1 + leader % 3;
            let (victim, asked) = if is_leader { (leader, other) } else { (other, leader) };
            let what = format!("{place} at n{victim}, which leads: {is_leader}");
            let tracer = Tracer::fail(lab.node(victim), place, "EIO")?;
            // The second of a kind may be that of a later commit.
            for part in 0..place.number {
                let name = format!("s{number}-{is_leader}-{part}");
                let created = lab.node(asked).sctl(&["secret", "create", &name, "-"], b"x")?;
                if created.status.success() {
                    acknowledged.push(name);
                }
            }
            let ended = until("the manager has stopped", || Ok(lab.node(victim).daemon_pid().is_err().then_some(())));
            let has_fired = tracer.end()?.fired();
            ensure!(has_fired, "{what}: the call was not made");
            ended.with_context(|| what.clone())?;
            fired += 1;
            ensure!(lab.node(victim).log().contains("the store has failed"), "{what}\n{}", lab.node(victim).log());

            let name = format!("s{number}-{is_leader}-after");
            lab.node(asked).ok_with(&["secret", "create", &name, "-"], b"x").with_context(|| what.clone())?;
            acknowledged.push(name);
            restart(lab.node_mut(victim)).with_context(|| what.clone())?;
            let all = until("it has everything", || {
                let there = lab.node(victim).ok(&["secret", "ls", "--format", "{{.Name}}"])?;
                let there: Vec<&str> = there.lines().collect();
                Ok(acknowledged.iter().all(|name| there.contains(&name.as_str())).then_some(()))
            });
            all.with_context(|| what)?;
        }
    }
    ensure!(fired > 4, "{fired} places were met");
    Ok(())
}

#[test]
fn joining_of_which_a_call_fails_is_refused_and_can_be_done_again() -> Result<()> {
    let mut lab = Lab::start(2)?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.node(1).ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let token = lab.token("worker")?;
    let to = lab.address(1).to_owned();
    let arguments = ["cluster", "join", "--token", &token, &to];
    let sites = places(lab.node(2), |node| node.ok(&arguments).map(drop))?;
    lab.node(2).ok(&["cluster", "leave"])?;
    let mut fired = 0;
    for place in &sites {
        let (answer, has_fired) = failing(lab.node(2), place, |node| node.sctl(&arguments, b""))?;
        fired += usize::from(has_fired);
        if !answer.status.success() {
            one_line(&answer).with_context(|| place.to_string())?;
        }
        restart(lab.node_mut(2)).with_context(|| place.to_string())?;
        if state(lab.node(2))? == "inactive" {
            ensure!(!answer.status.success(), "{place}: it had joined, and has not");
            lab.node(2).ok(&arguments).with_context(|| place.to_string())?;
        }
        until_shown(lab.node(2), &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| state == "active")
            .with_context(|| place.to_string())?;
        lab.node(2).ok(&["cluster", "leave"]).with_context(|| place.to_string())?;
    }
    ensure!(fired > 3, "{fired} of {} places were met", sites.len());
    Ok(())
}

#[test]
fn backup_of_which_a_call_fails_leaves_no_file() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    node.ok_with(&["secret", "create", "kept", "-"], &[7; 100_000])?;
    let directory = node.path("backups");
    std::fs::create_dir(&directory)?;
    let (file, output) = (directory.join("one"), node.path("strace.sctl"));
    let backup = node.sctl_command(&["cluster", "backup", &file.to_string_lossy()]);
    let watched = run(&mut watched_command(&backup, &output), b"")?;
    ensure!(watched.status.success(), "{watched:?}");
    std::fs::remove_file(&file)?;
    let sites = seen(&output)?.places(&directory);
    ensure!(
        sites.iter().any(|place| place.call == "fsync" && place.file.is_empty()),
        "its name may not last: {sites:?}"
    );
    for place in &sites {
        let answer = run(&mut failing_command(&backup, place, &directory, &output), b"")?;
        ensure!(seen(&output)?.fired(), "{place}: the call was not made");
        ensure!(answer.code() == 1, "{place}: {answer:?}");
        one_line(&answer)?;
        ensure!(answer.stderr.contains("cannot write") && answer.stdout.is_empty(), "{place}: {answer:?}");
        ensure!(std::fs::read_dir(&directory)?.next().is_none(), "{place}: something is left");
    }
    node.ok(&["cluster", "backup", &file.to_string_lossy()]).map(drop)
}

fn seen(output: &Path) -> Result<Seen> {
    Ok(Seen(std::fs::read_to_string(output)?))
}

#[test]
fn restoring_of_which_a_call_fails_is_refused_and_leaves_nothing() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    node.ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let file = node.path("backup").to_string_lossy().into_owned();
    node.ok_with(&["cluster", "backup", "--passphrase", &file], PASSPHRASE)?;

    let arguments = |node: &Node| ["cluster", "restore", "--listen-addr", node.address(), &file].map(str::to_owned);
    let restore = |node: &Node| {
        let arguments = arguments(node);
        node.sctl(&arguments.each_ref().map(String::as_str), PASSPHRASE)
    };
    let sites = places(&Node::start()?, |node| {
        let answer = restore(node)?;
        ensure!(answer.status.success(), "{answer:?}");
        Ok(())
    })?;
    let mut fired = 0;
    let mut empty = Node::start()?;
    for place in &sites {
        let (answer, has_fired) = failing(&empty, place, restore)?;
        fired += usize::from(has_fired);
        if !answer.status.success() {
            one_line(&answer).with_context(|| place.to_string())?;
        }
        restart(&mut empty).with_context(|| place.to_string())?;
        if state(&empty)? == "inactive" {
            ensure!(!answer.status.success(), "{place}: it was restored, and is not there");
            for name in ["store", "restoring", "membership"] {
                ensure!(!empty.data_dir().join(name).exists(), "{place}: {name} is left");
            }
        } else {
            let names = empty.ok(&["secret", "ls", "--format", "{{.Name}}"]).with_context(|| place.to_string())?;
            ensure!(names == "kept", "{place}: {names}");
            empty.ok(&["cluster", "leave", "--force"]).with_context(|| place.to_string())?;
        }
    }
    ensure!(fired > sites.len() / 2, "{fired} of {} places were met", sites.len());
    Ok(())
}
