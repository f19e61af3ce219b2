//! The key that seals a node's records is replaced while everything goes on, and nothing is lost, wherever it is broken off.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;

/// Replaces the data key, once everything is sealed anew that the last replacement has left: what was printed.
fn replace(node: &Node) -> Result<String> {
    until("the last replacement is finished", || {
        let answer = node.sctl(&["node", "rekey", "--data-key"], b"")?;
        ensure!(answer.code() == 0 || answer.stderr.contains("are being sealed anew"), "{answer:?}");
        Ok((answer.code() == 0).then_some(answer.stdout))
    })
}

fn until_finished(node: &Node, times: usize) -> Result<()> {
    until("everything is sealed anew", || {
        let line = "everything is sealed under the new data key, and the old one is gone";
        Ok((node.log().matches(line).count() == times).then_some(()))
    })
}

fn names(node: &Node) -> Result<BTreeSet<String>> {
    Ok(node.ok(&["secret", "ls", "--format", "{{.Name}}"])?.lines().map(str::to_owned).collect())
}

/// Creates secrets until it is told to stop, or secretd is gone: those that were acknowledged.
fn write(node: &Node, prefix: &str, stop: &AtomicBool, count: &AtomicUsize) -> Result<BTreeSet<String>> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{prefix}-{number}");
        let size = if number % 5 == 0 { 100_000 } else { 300 };
        if node.sctl(&["secret", "create", &name, "-"], &vec![b'x'; size])?.code() != 0 {
            break;
        }
        acknowledged.insert(name);
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(acknowledged)
}

#[test]
fn data_key_is_replaced_while_clients_write_and_nobody_is_asked_for_the_passphrase() -> Result<()> {
    let mut lab = Lab::cluster(1, 1)?;
    lab.node(1).ok_with(&["node", "rekey", "--passphrase"], b"correct horse\n")?;
    lab.node(1).ok_with(&["secret", "create", "old", "-"], b"sealed before")?;
    let stop = AtomicBool::new(false);
    let node = lab.node(1);
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(node, "during", &stop, &AtomicUsize::new(0)));
        let replaced = (0..3).try_for_each(|_| {
            let told = replace(node)?;
            ensure!(told.contains("New data key, wrapped by passphrase (secure)"), "{told}");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))?;
        replaced.and(written)
    })?;
    ensure!(!acknowledged.is_empty());
    until_finished(node, 3)?;
    let template = "{{.Description.Secrets.DataKeyResealing}} {{.Description.Secrets.DataKeyMadeAt}}";
    until_shown(node, &["node", "inspect", "self", "--format", template], |keys| {
        keys.starts_with("false 20") && keys.ends_with('Z')
    })?;
    // A worker has a data key too.
    lab.node(2).ok(&["node", "rekey", "--data-key"])?;
    until_finished(lab.node(2), 1)?;

    for number in [1, 2] {
        lab.node_mut(number).stop_daemon()?;
        lab.node_mut(number).start_daemon()?;
    }
    lab.node(1).ok_with(&["cluster", "unlock"], b"correct horse")?;
    let known = names(lab.node(1))?;
    ensure!(acknowledged.is_subset(&known) && known.contains("old"), "{known:?}");
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady")?;
    lab.node(1).create_service(&["--name", "app", "--secret", "old", "busybox:1", "sleep", "10000"])?;
    ensure!(lab.node(1).ok(&["exec", "app.1", "cat", "/run/secrets/old"])? == "sealed before");
    Ok(())
}

#[test]
fn kill_at_any_moment_of_a_replacement_loses_nothing_and_it_goes_on_by_itself() -> Result<()> {
    let mut lab = Lab::cluster(1, 0)?;
    // Enough that sealing it anew takes several commits.
    let mut all = BTreeSet::new();
    for number in 0..15 {
        lab.node(1).ok_with(&["secret", "create", &format!("large-{number}"), "-"], &[b'x'; 500_000])?;
        all.insert(format!("large-{number}"));
    }
    let mut interrupted = 0;
    for round in 0..12_usize {
        let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        let node = lab.node(1);
        let name = format!("round-{round}");
        let acknowledged = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(node, &name, &stop, &count));
            until("it writes", || Ok((count.load(Ordering::Relaxed) >= 2).then_some(())))?;
            // As many calls between the beginning and the end of the process as there were rounds.
            let replaced = replace(node);
            for _ in 0..round / 2 {
                let _ = node.sctl(&["info"], b"");
            }
            let killed = node.daemon_pid().and_then(|pid| {
                let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| anyhow::anyhow!("pid"))?;
                Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
            });
            stop.store(true, Ordering::Relaxed);
            let written = writer.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))?;
            replaced.map(drop).and(killed).and(written)
        })?;
        all.extend(acknowledged);
        lab.node_mut(1).kill_daemon()?;
        let done = || lab.node(1).log().matches("and the old one is gone").count();
        interrupted += usize::from(done() <= round);
        lab.node_mut(1).start_daemon()?;
        let known = names(lab.node(1))?;
        ensure!(all.is_subset(&known), "round {round}: {:?} are lost", all.difference(&known));
    }
    ensure!(interrupted > 0, "every replacement was finished before the kill");
    Ok(())
}

#[test]
fn old_data_key_stays_until_what_lies_beside_the_store_is_sealed_anew() -> Result<()> {
    const UNREAD: &str = "will not be noticed by what it says";
    let mut lab = Lab::cluster(1, 1)?;
    let (seen, hindrance) = (lab.node(2).data_dir().join("seen"), lab.node(2).data_dir().join("seen.new"));
    until("something is seen of the cluster", || Ok(seen.exists().then_some(())))?;

    // A disk that does not take what was seen of the cluster.
    lab.node_mut(2).stop_daemon()?;
    std::fs::create_dir(&hindrance)?;
    lab.node_mut(2).start_daemon()?;
    lab.node(2).ok(&["node", "rekey", "--data-key"])?;
    until("it is told", || Ok(lab.node(2).log().contains("not everything is sealed anew yet").then_some(())))?;
    lab.node_mut(2).stop_daemon()?;
    std::fs::remove_dir(&hindrance)?;
    lab.node_mut(2).start_daemon()?;
    until_finished(lab.node(2), 1)?;

    // A node that cannot go on as what it was once it is unlocked.
    lab.node(2).ok_with(&["node", "rekey", "--passphrase"], b"correct horse\n")?;
    lab.node_mut(2).stop_daemon()?;
    let hindrance = lab.node(2).data_dir().join("restoring");
    std::fs::write(&hindrance, "no directory")?;
    lab.node_mut(2).start_daemon()?;
    let answer = lab.node(2).sctl(&["cluster", "unlock"], b"correct horse")?;
    ensure!(answer.code() != 0 && answer.stderr.contains("restoring"), "{answer:?}");
    lab.node(2).ok(&["node", "rekey", "--data-key"])?;
    until_finished(lab.node(2), 2)?;
    lab.node_mut(2).stop_daemon()?;
    std::fs::remove_file(&hindrance)?;
    lab.node_mut(2).start_daemon()?;
    lab.node(2).ok_with(&["cluster", "unlock"], b"correct horse")?;
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady")?;
    ensure!(!lab.node(2).log().contains(UNREAD), "what was seen of the cluster is lost");
    Ok(())
}
