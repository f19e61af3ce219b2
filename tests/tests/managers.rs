//! The managers' side of a cluster, by stories of the real binaries: how many may be lost, a leader that hands over, one
//! that joins late, one that was away, and what the log costs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use secretd_tests::client::Client;
use secretd_tests::command::Answer;
use secretd_tests::lab::{Lab, until, until_created, until_demoted, until_shown};
use secretd_tests::node::Node;

const NAMES: [&str; 4] = ["secret", "ls", "--format", "{{.Name}}"];

fn write(node: &Node, name: &str) -> Result<()> {
    node.ok_with(&["secret", "create", name, "-"], b"x").map(drop)
}

fn socket(node: &Node) -> std::path::PathBuf {
    node.run_dir().join("control.sock")
}

/// Runs a client of the API to its end.
fn with_client<T>(node: &Node, work: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { work(Client::connect(&socket(node)).await?).await })
}

#[test]
fn clusters_of_one_three_five_and_seven_lose_a_minority_and_say_what_a_majority_needs() -> Result<()> {
    let mut lab = Lab::start(7)?;
    lab.node(1).ok(&["cluster", "init"])?;
    write(lab.node(1), "one")?;
    for (size, lost) in [(3, 1), (5, 2), (7, 3)] {
        for number in size - 1..=size {
            lab.join(number, "manager")?;
        }
        let gone = size - lost + 1..=size;
        for number in gone.clone() {
            lab.node_mut(number).kill_daemon()?;
        }
        until_created(lab.node(1), &format!("of-{size}"), b"x")?;
        // One more, and nothing is changed any more.
        let last = size - lost;
        lab.node_mut(last).kill_daemon()?;
        let refused = lab.node(1).refused(3, &["secret", "create", "never", "-"], b"x")?;
        let words = format!(" of {size} managers answer, {} are needed", size / 2 + 1);
        let (before, _) = refused.split_once(&words).with_context(|| format!("not {words:?}: {refused}"))?;
        let answer: usize = before.rsplit(' ').next().unwrap_or_default().parse().with_context(|| refused.clone())?;
        // One that goes on may be silent for a moment too.
        ensure!(answer < last && refused.contains(lab.address(last)), "{refused}");
        for number in std::iter::once(last).chain(gone) {
            lab.node_mut(number).start_daemon()?;
        }
        until_shown(lab.node(size), &NAMES, |names| names.lines().any(|name| name == format!("of-{size}")))?;
    }
    ensure!(lab.node(7).ok(&NAMES)? == "of-3\nof-5\nof-7\none", "{}", lab.node(7).ok(&NAMES)?);

    // And back to one.
    for number in (2..=7).rev() {
        until_demoted(lab.node(1), &format!("n{number}"))?;
        until_created(lab.node(1), &format!("without-{number}"), b"x")?;
    }
    until_shown(lab.node(1), &["node", "ls", "-f", "role=manager", "--format", "{{.Hostname}}"], |all| all == "n1")?;
    Ok(())
}

/// What became of the writes of one client after another.
#[derive(Debug, Default)]
struct Written {
    acknowledged: Vec<String>,
    refused: Vec<Answer>,
}

fn write_until(done: &AtomicBool, node: &Node) -> Result<Written> {
    let mut written = Written::default();
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("w{number}");
        let answer = node.sctl(&["secret", "create", &name, "-"], b"x")?;
        if answer.status.success() { written.acknowledged.push(name) } else { written.refused.push(answer) }
    }
    Ok(written)
}

#[test]
fn leader_that_is_demoted_hands_over_and_no_write_is_refused() -> Result<()> {
    let lab = Lab::cluster(3, 0)?;
    let writes_at = if lab.leader(1)? == 3 { 2 } else { 3 };
    let (before, done) = (lab.elections(), AtomicBool::new(false));
    let (demoted, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&done, lab.node(writes_at)));
        let demoted = demote_leaders(&lab, writes_at);
        done.store(true, Ordering::Relaxed);
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        Ok::<_, anyhow::Error>((demoted?, written?))
    })?;

    let Written { acknowledged, refused } = written;
    if let Some(first) = refused.first() {
        // A machine that is too busy elects another leader unasked: what is under way then has no outcome that is known.
        let unasked = || Ok((lab.elections() - before > demoted).then_some(()));
        let excused = until("more elections than demotions", unasked);
        excused.with_context(|| format!("a write was refused: {first:?}"))?;
        ensure!(refused.iter().all(|answer| answer.code() == 3), "{refused:?}");
    }
    ensure!(acknowledged.len() > 3, "only {} were written", acknowledged.len());
    let names = lab.node(writes_at).ok(&NAMES)?;
    ensure!(acknowledged.iter().all(|name| names.lines().any(|line| line == name)), "one of them is lost");
    Ok(())
}

/// Demotes whoever leads, and promotes it again, until the lead is where the writes come in: how many were demoted.
fn demote_leaders(lab: &Lab, writes_at: usize) -> Result<usize> {
    for round in 0..3 {
        let leader = until("somebody leads", || Ok(lab.leader(writes_at).ok()))?;
        if leader == writes_at {
            return Ok(round);
        }
        let name = format!("n{leader}");
        until_demoted(lab.node(writes_at), &name)?;
        let now = until("another leads", || Ok(lab.leader(writes_at).ok()))?;
        ensure!(now != leader, "a demoted manager leads");
        until("it is a worker", || Ok((!lab.node(leader).data_dir().join("store").exists()).then_some(())))?;
        lab.node(writes_at).ok(&["node", "promote", &name])?;
        until_shown(lab.node(leader), &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| state == "active")?;
    }
    Ok(3)
}

fn create_many(node: &Node, prefix: &str, count: usize) -> Result<()> {
    with_client(node, async |mut client| {
        for number in 0..count {
            client.until_created(&format!("{prefix}-{number}"), b"x").await?;
        }
        Ok(())
    })
}

#[test]
fn new_manager_takes_a_log_that_is_older_than_the_root_of_its_leader() -> Result<()> {
    let lab = Lab::start(2)?;
    lab.node(1).ok(&["cluster", "init"])?;
    // More changes than go in one message, fewer than end in a snapshot; nobody needs the old roots any more.
    for round in 0..5 {
        create_many(lab.node(1), &format!("s{round}"), 80)?;
        lab.node(1).ok(&["cluster", "ca", "--rotate"])?;
    }

    lab.join(2, "manager")?;

    until_shown(lab.node(2), &["secret", "ls", "-q"], |ids| ids.lines().count() == 400)?;
    ensure!(!lab.node(1).log().contains("of a root that was replaced"), "{}", lab.node(1).log());
    Ok(())
}

#[test]
fn manager_that_starts_alone_with_a_state_from_before_a_rotation_finds_the_others() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    // The state goes to the disk with the 256th of these; the rotation is in the log alone.
    create_many(lab.node(1), "s", 262)?;
    lab.node(1).ok(&["cluster", "ca", "--rotate"])?;
    for number in 1..=3 {
        lab.node_mut(number).kill_daemon()?;
    }

    // As long as nobody leads it has that state.
    lab.node_mut(1).start_daemon()?;
    lab.node(1).refused(3, &["secret", "ls"], b"")?;
    for number in [2, 3] {
        lab.node_mut(number).start_daemon()?;
    }

    let rows = ["node", "ls", "--format", "{{.TLSStatus}} {{.ManagerStatus}}"];
    for number in 1..=3 {
        until_shown(lab.node(number), &rows, |rows| {
            let mut rows: Vec<&str> = rows.lines().collect();
            rows.sort_unstable();
            rows == ["Ready Leader", "Ready Reachable", "Ready Reachable"]
        })?;
    }
    Ok(())
}

#[test]
fn late_joiner_and_manager_that_was_away_have_everything_by_snapshot() -> Result<()> {
    let mut lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.import_busybox()?;
    let large: String = (0..400_000_u32).filter_map(|at| char::from_digit(at % 35, 36)).collect();
    with_client(lab.node(1), async |mut client| {
        for number in 0..20 {
            client.create_secret(&format!("large-{number}"), large.as_bytes()).await?;
        }
        // More changes than the log keeps.
        for number in 0..620 {
            client.create_secret(&format!("small-{number}"), b"x").await?;
        }
        Ok(())
    })?;
    for number in [2, 3] {
        let token = lab.token("manager")?;
        // It is given some megabytes before it takes part: a slow machine may need longer than the command waits.
        lab.node(number).sctl(&["cluster", "join", "--token", &token, lab.address(1)], b"")?;
        until_shown(lab.node(number), &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| state == "active")?;
    }
    until_shown(lab.node(3), &["secret", "ls", "-q"], |ids| ids.lines().count() == 640)?;

    // One is away for longer than the log goes back.
    lab.node_mut(3).kill_daemon()?;
    with_client(lab.node(2), async |mut client| {
        for number in 0..620 {
            client.until_created(&format!("meanwhile-{number}"), b"x").await?;
        }
        client.until_created("large-meanwhile", large.as_bytes()).await
    })?;
    lab.node_mut(3).start_daemon()?;
    until_shown(lab.node(3), &["--stale", "secret", "ls", "-q"], |ids| ids.lines().count() == 1261)?;
    // Without the manager that had everything from the first: payloads have come along, and not names alone.
    lab.node_mut(1).kill_daemon()?;
    let secrets = ["--secret", "large-0", "--secret", "large-meanwhile", "--constraint", "node.hostname==n3"];
    let flags = [&["--name", "app"], &secrets[..], &["busybox:1", "sleep", "10000"]].concat();
    lab.node(3).create_service(&flags)?;
    for name in ["large-0", "large-meanwhile"] {
        let read = lab.node(3).ok(&["exec", "app.1", "cat", &format!("/run/secrets/{name}")])?;
        ensure!(read == large, "{name} is another: {} bytes", read.len());
    }
    Ok(())
}

#[test]
fn manager_that_is_demoted_and_promoted_while_it_is_away_begins_anew() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    until_created(lab.node(1), "before", b"x")?;
    lab.node_mut(3).kill_daemon()?;
    until_demoted(lab.node(1), "n3")?;
    lab.node(1).ok(&["node", "promote", "n3"])?;

    lab.node_mut(3).start_daemon()?;

    let status = ["node", "inspect", "n3", "--format", "{{.ManagerStatus.Reachability}}"];
    until_shown(lab.node(1), &status, |status| status == "reachable")?;
    lab.node_mut(2).kill_daemon()?;
    until_created(lab.node(3), "voted", b"x") // its vote counts
}

/// Bytes of a directory's files.
fn size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

#[test]
fn data_directory_does_not_grow_with_the_number_of_changes() -> Result<()> {
    const BYTES: usize = 20_000;
    const ROUND: u64 = 1500;
    let node = Node::start()?;
    node.found()?;
    let value = vec![7; BYTES];
    let sizes = with_client(&node, async |mut client| {
        let secret = client.create_secret("changing", &value).await?;
        let mut sizes = Vec::new();
        for round in 0..3 {
            for change in 0..ROUND {
                client.update_secret(secret, 2 + round * ROUND + change, "changing", &value).await?;
            }
            sizes.push(size(&node.data_dir().join("store"))?);
        }
        Ok(sizes)
    })?;
    let [first, _, last] = sizes[..] else { anyhow::bail!("{sizes:?}") };
    ensure!(last <= first + first / 2, "it has grown from {first} to {last} bytes in {} more changes", 2 * ROUND);
    let written = 3 * ROUND * BYTES as u64;
    ensure!(last < written / 2, "{last} bytes are kept of {written}");
    Ok(())
}

#[test]
fn what_may_be_old_is_shown_when_it_is_asked_for_and_says_so() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    until_created(lab.node(1), "kept", b"x")?;
    let fresh = lab.node(2).ok(&["--format", "json", "secret", "ls"])?;
    ensure!(fresh.contains("\"kept\"") && !fresh.contains("Stale"), "{fresh}");
    until_shown(lab.node(1), &["--stale", "--format", "json", "secret", "ls"], |row| row.contains("\"Stale\":true"))?;
    for lost in [2, 3] {
        lab.node_mut(lost).kill_daemon()?;
    }

    lab.node(1).refused(3, &["--format", "{{.Name}}", "secret", "ls"], b"")?;
    lab.node(1).refused(3, &["secret", "inspect", "kept"], b"")?;
    for command in [&["secret", "ls"][..], &["secret", "inspect", "kept"], &["node", "ls"], &["node", "inspect", "n1"]]
    {
        let answer = lab.node(1).sctl(&[&["--stale", "--format", "json"], command].concat(), b"")?;
        ensure!(answer.code() == 0 && answer.stdout.contains("\"Stale\":true"), "{command:?}: {answer:?}");
        ensure!(answer.stderr.contains("may be out of date"), "{command:?}: {answer:?}");
    }
    for command in [&["secret", "create", "x", "-"][..], &["secret", "rm", "kept"], &["info"], &["cluster", "leave"]] {
        let line = lab.node(1).refused(2, &[&["--stale"], command].concat(), b"x")?;
        ensure!(line.contains("--stale is for what is read"), "{command:?}: {line}");
    }
    Ok(())
}

#[test]
fn survivor_of_an_autolocked_cluster_goes_on_alone_and_stays_locked_by_its_key() -> Result<()> {
    let mut lab = Lab::start(3)?;
    let printed = lab.node(1).ok(&["cluster", "init", "--autolock"])?;
    let key = printed.split_whitespace().find(|word| word.starts_with("SCTLKEY-1-")).context("no key")?.to_owned();
    lab.join(2, "manager")?;
    lab.join(3, "manager")?;
    until_created(lab.node(1), "kept", b"x")?;
    let kek = ["node", "inspect", "n3", "--format", "{{.Description.Secrets.KEK}}"];
    until_shown(lab.node(1), &kek, |source| source == "unlock-key")?;
    for number in 1..=3 {
        lab.node_mut(number).kill_daemon()?;
    }

    lab.node_mut(3).start_daemon()?;
    let force = ["cluster", "init", "--force-new-cluster"];
    let locked = lab.node(3).refused(1, &force, b"")?;
    ensure!(locked.contains("needs to be unlocked before it can be used"), "{locked}");
    lab.node(3).ok_with(&["cluster", "unlock"], key.as_bytes())?;
    lab.node(3).refused(3, &NAMES, b"")?;
    lab.node(3).ok(&force)?;

    ensure!(lab.node(3).ok(&NAMES)? == "kept");
    write(lab.node(3), "after")?;
    ensure!(lab.node(3).ok(&["cluster", "unlock-key", "-q"])? == key);
    lab.node_mut(3).stop_daemon()?;
    lab.node_mut(3).start_daemon()?;
    let again = lab.node(3).refused(1, &NAMES, b"")?;
    ensure!(again.contains("needs to be unlocked"), "{again}");
    lab.node(3).ok_with(&["cluster", "unlock"], key.as_bytes())?;
    until_shown(lab.node(3), &NAMES, |names| names == "after\nkept")?;
    Ok(())
}
