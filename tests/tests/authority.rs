//! Who is who, over time: the root certificate is shown and replaced, nodes' certificates are renewed while everything goes
//! on, and operators' certificates are taken back.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use secretd_tests::campaign::pause;
use secretd_tests::command::Answer;
use secretd_tests::lab::{Lab, until, until_created, until_shown};
use secretd_tests::laptop::Laptop;
use secretd_tests::node::Node;
use secretd_tests::peer::rows_hold;

const TLS: [&str; 4] = ["node", "ls", "--format", "{{.Hostname}} {{.TLSStatus}}"];
/// How long a write may take. Far more than it needs: a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of five with the image `busybox:1`, of which three are managers.
fn cluster(flags: &[&str]) -> Result<Lab> {
    let lab = Lab::start(5)?;
    lab.node(1).ok(&[&["cluster", "init"], flags].concat())?;
    for number in 2..=5 {
        lab.join(number, if number < 4 { "manager" } else { "worker" })?;
    }
    lab.import_busybox()?;
    Ok(lab)
}

/// The ids of a service's running tasks on nodes that `counts`.
fn tasks(node: &Node, service: &str, counts: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
    let filter = ["-f", "desired-state=running", "--no-trunc", "--format", "{{.ID}} {{.Node}} {{.CurrentState}}"];
    let rows = node.ok(&[&["service", "ps", service], filter.as_slice()].concat())?;
    let running = rows.lines().filter_map(|row| row.split_once(" Running")?.0.split_once(' '));
    Ok(running.filter(|(_, node)| counts(node)).map(|(id, _)| id.to_owned()).collect())
}

fn create_service(node: &Node, replicas: &str) -> Result<()> {
    let flags = ["--name", "app", "--replicas", replicas, "--stop-signal", "KILL"];
    node.create_service(&[&flags[..], &["busybox:1", "sleep", "10000"]].concat()).map(drop)
}

/// Writes with one client after another while `work` is under way: how many secrets were acknowledged. All must be, unless
/// another manager came to lead meanwhile: then a write has no outcome that is known, and is made again.
fn while_writing<T>(lab: &Lab, asked: usize, work: impl FnOnce() -> Result<T>) -> Result<(usize, T)> {
    let (elections, ended) = (lab.elections(), AtomicBool::new(false));
    let (written, unknown, done) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<(usize, Vec<Answer>)> {
            let (mut written, mut unknown) = (0, Vec::new());
            while !ended.load(Ordering::Relaxed) {
                unknown.extend(create_secret(lab.node(asked), &format!("s{written}"))?);
                written += 1;
            }
            Ok((written, unknown))
        });
        let done = work();
        ended.store(true, Ordering::Relaxed);
        let (written, unknown) = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok::<_, anyhow::Error>((written, unknown, done?))
    })?;
    if let Some(first) = unknown.first() {
        let elected = until("another manager leads", || Ok((lab.elections() > elections).then_some(())));
        elected.with_context(|| format!("a write was refused: {first:?}"))?;
    }
    Ok((written, done))
}

/// Creates a secret: the answers, before the one that counts, that did not tell what came of it. One that is there
/// afterwards was made.
fn create_secret(node: &Node, name: &str) -> Result<Vec<Answer>> {
    let (mut unknown, end) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        let answer = node.sctl(&["secret", "create", name, "-"], b"x")?;
        match answer.code() {
            0 => return Ok(unknown),
            4 if !unknown.is_empty() => return Ok(unknown),
            3 if Instant::now() < end => unknown.push(answer),
            _ => bail!("{name}: {answer:?}"),
        }
        pause();
    }
}

fn all_are_there(node: &Node, written: usize) -> Result<()> {
    let names = node.ok(&["secret", "ls", "--format", "{{.Name}}"])?;
    let names: BTreeSet<&str> = names.lines().collect();
    let lost: Vec<String> =
        (0..written).map(|n| format!("s{n}")).filter(|name| !names.contains(name.as_str())).collect();
    ensure!(written > 0 && lost.is_empty(), "{written} acknowledged, lost: {lost:?}");
    Ok(())
}

fn digest(node: &Node) -> Result<String> {
    node.ok(&["cluster", "ca", "--format", "{{.Digest}}"])
}

#[test]
fn root_is_replaced_while_everything_goes_on_and_a_dead_node_is_named() -> Result<()> {
    // Nodes that are slow to answer are not taken for dead ones.
    let mut lab = cluster(&["--dispatcher-heartbeat", "5s"])?;
    create_service(lab.node(1), "5")?;
    let (old, old_pem) = (digest(lab.node(1))?, lab.node(1).ok(&["cluster", "ca"])?);
    ensure!(old_pem.starts_with("-----BEGIN CERTIFICATE-----") && old_pem.lines().count() > 5, "{old_pem}");
    let (worker, manager) = (lab.token("worker")?, lab.token("manager")?);
    ensure!(worker.contains(&old), "{worker} has not the digest {old}");
    until_shown(lab.node(1), &TLS, |all| all == "n1 Ready\nn2 Ready\nn3 Ready\nn4 Ready\nn5 Ready")?;
    lab.node_mut(5).kill_daemon()?;
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all.ends_with("Down"))?;
    let lives = |node: &str| node != "n5";
    let before = tasks(lab.node(1), "app", lives)?;

    let (written, rotated) = while_writing(&lab, 2, || lab.node(3).sctl(&["cluster", "ca", "--rotate"], b""))?;

    ensure!(rotated.status.success(), "{rotated:?}");
    all_are_there(lab.node(1), written)?;
    ensure!(before.is_subset(&tasks(lab.node(1), "app", lives)?), "tasks were dropped");
    let new = digest(lab.node(2))?;
    ensure!(new != old && rotated.stderr.contains(&format!("desired root digest: {new}")), "{rotated:?}");
    ensure!(rotated.stderr.contains("rotated TLS certificates: 4/5 nodes"), "{rotated:?}");
    ensure!(rotated.stderr.contains("WARNING: node n5 (") && rotated.stderr.contains("was left behind"), "{rotated:?}");
    ensure!(rotated.stdout.trim_end() == lab.node(1).ok(&["cluster", "ca"])?, "{rotated:?}");
    let status = lab.node(1).ok(&TLS)?;
    ensure!(status == "n1 Ready\nn2 Ready\nn3 Ready\nn4 Ready\nn5 Needs Rotation", "{status}");
    let logs: String = (1..=3).map(|number| lab.node(number).log()).collect();
    ensure!(logs.contains("authority.rotate\"") && logs.contains("authority.rotated\""), "it is not on record");

    // Both tokens are others, and the old ones lead nowhere.
    for (role, old_token) in [("worker", &worker), ("manager", &manager)] {
        let token = lab.token(role)?;
        ensure!(token.contains(&new) && token.rsplit('-').next() != old_token.rsplit('-').next(), "{token}");
    }
    lab.node(4).ok(&["cluster", "leave"])?;
    let refused = lab.node(4).refused(1, &["cluster", "join", "--token", &worker, lab.address(1)], b"")?;
    ensure!(refused.contains("the cluster's root was replaced since"), "{refused}");
    let half = format!("SCTL-1-{new}-{}", worker.rsplit('-').next().unwrap_or_default());
    let refused = lab.node(4).refused(1, &["cluster", "join", "--token", &half, lab.address(1)], b"")?;
    ensure!(refused.contains("it is not valid: ask for the present one"), "{refused}");
    lab.join(4, "worker")?;

    // The dead node comes back with its old certificate, and has it renewed by itself.
    lab.node_mut(5).start_daemon()?;
    until("n5 has renewed its certificate", || {
        let status = lab.node(1).ok(&TLS)?;
        Ok(status.lines().filter(|row| row.starts_with("n5")).all(|row| row == "n5 Ready").then_some(()))
    })?;
    until_shown(lab.node(1), &["cluster", "ca", "--format", "{{json .RetiredRoots}}"], |roots| roots == "[]")?;
    let shown = lab.node(1).ok(&["node", "inspect", "n5", "--format", "{{.TLS.Status}} {{.TLS.ExpiresAt}}"])?;
    ensure!(shown.starts_with("Ready 20"), "{shown}");
    rows_hold("root_is_replaced_while_everything_goes_on_and_a_dead_node_is_named")
}

#[test]
fn replacement_outlives_its_leader_and_there_is_one_at_a_time() -> Result<()> {
    let mut lab = Lab::start(4)?;
    // A node that is cut off seems to be there for longer than this test takes.
    lab.node(1).ok(&["cluster", "init", "--dispatcher-heartbeat", "1m"])?;
    for number in 2..=4 {
        lab.join(number, if number < 4 { "manager" } else { "worker" })?;
    }
    until_shown(lab.node(1), &TLS, |all| all == "n1 Ready\nn2 Ready\nn3 Ready\nn4 Ready")?;
    let old = digest(lab.node(1))?;
    lab.cut(4)?;
    let leader = lab.leader(1)?;
    let other = if leader == 1 { 2 } else { 1 };

    lab.node(other).ok(&["cluster", "ca", "--rotate", "--detach", "--cert-expiry", "720h"])?;

    let new = digest(lab.node(other))?;
    ensure!(new != old, "{new}");
    let again = lab.node(other).refused(4, &["cluster", "ca", "--rotate"], b"")?;
    ensure!(again.contains("is being replaced already: wait until that is over"), "{again}");
    let shown = lab.node(other).sctl(&["cluster", "ca"], b"")?;
    ensure!(shown.stderr.contains("The root certificate is being replaced since"), "{shown:?}");
    ensure!(shown.stderr.contains("WARNING: node n4") && shown.stderr.contains("has not renewed"), "{shown:?}");
    ensure!(shown.stdout.matches("BEGIN CERTIFICATE").count() == 2, "both roots count: {shown:?}");

    lab.node_mut(leader).kill_daemon()?;
    until("another leads", || Ok((lab.leader(other)? != leader).then_some(())))?;
    until_created(lab.node(other), "meanwhile", b"x")?;
    lab.node_mut(leader).start_daemon()?;
    lab.heal(4)?;

    until_shown(lab.node(other), &["cluster", "ca", "--format", "{{.Finished}}"], |finished| finished == "true")?;
    ensure!(digest(lab.node(other))? == new);
    until_shown(lab.node(leader), &TLS, |all| all == "n1 Ready\nn2 Ready\nn3 Ready\nn4 Ready")?;
    let second = lab.node(leader).sctl(&["cluster", "ca", "--rotate", "--quiet"], b"")?;
    ensure!(second.status.success() && second.stdout.is_empty() && second.stderr.is_empty(), "{second:?}");
    ensure!(digest(lab.node(leader))? != new);
    rows_hold("replacement_outlives_its_leader_and_there_is_one_at_a_time")
}

#[test]
fn root_that_operators_bring_takes_the_place_of_ours() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let node = lab.node(1);
    let script = "cd $T && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key 2>&1 \
        && openssl req -x509 -new -key ca.key -days 3650 -subj '/C=CH/CN=Our Root' \
           -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -out ca.pem 2>&1 \
        && openssl req -x509 -new -key ca.key -days 30 -subj '/CN=Our Root' -out soon.pem 2>&1 \
        && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key 2>&1";
    let made = node.in_sandbox(script)?;
    ensure!(made.status.success(), "{made:?}");
    let path = |name: &str| node.path(name).display().to_string();
    let (root, key) = (path("ca.pem"), path("ca.key"));
    let rotate = |code: i32, more: &[&str], words: &str| -> Result<()> {
        let line = node.refused(code, &[&["cluster", "ca"], more].concat(), b"")?;
        ensure!(line.contains(words), "{more:?}: {line}");
        Ok(())
    };
    for flag in ["--ca-cert", "--ca-key"] {
        rotate(2, &[flag, &root], &format!("`{flag}` flag requires the `--rotate` flag to update the CA"))?;
    }
    rotate(2, &["--cert-expiry", "1h"], "`--cert-expiry` flag requires the `--rotate` flag")?;
    rotate(2, &["--detach"], "`--detach` flag requires")?;
    rotate(2, &["--rotate", "--ca-cert", &root], "requires that the --ca-key flag is provided")?;
    rotate(2, &["--rotate", "--ca-key", &key], "requires that the --ca-cert flag is provided")?;
    rotate(2, &["--rotate", "--external-ca", "protocol=cfssl,url=https://x"], "there is no external one")?;
    rotate(1, &["--rotate", "--cert-expiry", "1s"], "minimum certificate expiry time")?;
    rotate(1, &["--rotate", "--ca-cert", &key, "--ca-key", &key], "there is no certificate in it")?;
    rotate(1, &["--rotate", "--ca-cert", &root, "--ca-key", &root], "there is no private key in it")?;
    let two = [std::fs::read(&root)?, std::fs::read(path("soon.pem"))?].concat();
    std::fs::write(path("two.pem"), two)?;
    rotate(1, &["--rotate", "--ca-cert", &path("two.pem"), "--ca-key", &key], "there must be one certificate in it")?;
    rotate(1, &["--rotate", "--ca-cert", "/nowhere", "--ca-key", &key], "No such file")?;
    rotate(1, &["--rotate", "--ca-cert", &path("soon.pem"), "--ca-key", &key], "for a year at least")?;
    rotate(1, &["--rotate", "--ca-cert", &root, "--ca-key", &path("other.key")], "it must be the certificate's own")?;

    node.ok(&["cluster", "ca", "--rotate", "--ca-cert", &root, "--ca-key", &key])?;

    let shown = node.ok(&["cluster", "ca"])?;
    ensure!(shown == std::fs::read_to_string(&root)?.trim_end(), "{shown}");
    until_shown(node, &TLS, |all| all == "n1 Ready\nn2 Ready")?;
    rotate(1, &["--rotate", "--ca-cert", &root, "--ca-key", &key], "the new root has the key of the present one")?;
    let secret = std::fs::read_to_string(&key)?;
    let secret = secret.lines().nth(1).context("the key has a line")?;
    ensure!(!node.log().contains(secret), "the key is in the log");
    rows_hold("root_that_operators_bring_takes_the_place_of_ours")
}

#[test]
fn certificates_expire_under_load_and_nothing_is_lost_or_refused() -> Result<()> {
    // Two renewals take longer than a certificate counts, and each of them has eight seconds at least.
    let lab = cluster(&["--cert-expiry", "40s", "--dispatcher-heartbeat", "15s"])?;
    create_service(lab.node(1), "5")?;
    let before = tasks(lab.node(1), "app", |_| true)?;
    let renewals = |number: usize| lab.node(number).log().matches("has a new certificate").count();
    let first: Vec<usize> = (1..=5).map(renewals).collect();
    // A command that runs for longer than a certificate counts.
    let mut long = lab.node(2).sctl_command(&["exec", "-i", "app.1", "cat"]);
    let mut long = long.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;

    let elections = lab.elections();
    let (written, ()) = while_writing(&lab, 2, || {
        for more in 1..=2 {
            for (number, had) in (1..).zip(&first) {
                until("another renewal", || Ok((renewals(number) >= had + more).then_some(())))?;
            }
        }
        Ok(())
    })?;

    all_are_there(lab.node(3), written)?;
    ensure!(tasks(lab.node(1), "app", |_| true)? == before, "tasks were dropped");
    let mut input = long.stdin.take().context("stdin")?;
    let told = std::io::Write::write_all(&mut input, b"still here");
    drop(input);
    let said = long.wait_with_output()?;
    // It ends with the lead of the manager that it goes through.
    let is_whole = told.is_ok() && said.stdout == b"still here";
    ensure!(is_whole || lab.elections() > elections, "the command was cut off: {said:?}");
    for node in lab.nodes() {
        for words in ["permission-denied", "certificate has expired", "has missed its heartbeats"] {
            ensure!(!node.log().contains(words), "{words}");
        }
    }
    Ok(())
}

#[test]
fn operators_certificates_are_listed_and_taken_back() -> Result<()> {
    let lab = Lab::cluster(2, 0)?;
    let laptop = Laptop::of(&lab)?;
    let (mia, leo) = (laptop.certificate("mia", "admin")?, laptop.certificate("leo", "viewer")?);
    let again = laptop.path("again.pem").display().to_string();
    lab.node(1).ok(&["operator", "create", "--role", "admin", "mia", &again])?;
    let hosts = [1, 2].map(|number| format!("tcp://{}", lab.address(number)));
    let ls = |host: &str, certificate: &str| laptop.sctl(&["--host", host, "--cert", certificate, "secret", "ls"], b"");
    let listed = laptop.ok(&[
        "--host",
        &hosts[0],
        "--cert",
        &leo,
        "operator",
        "ls",
        "--format",
        "{{.Name}} {{.Role}} {{.Status}}",
    ])?;
    ensure!(listed == "leo viewer Valid\nmia admin Valid\nmia admin Valid", "{listed}");
    laptop.refused(1, &["--host", &hosts[0], "--cert", &leo, "operator", "rm", "mia"], "it may read metadata alone")?;

    // Streams that are open end with a line that says why, at whichever manager.
    let mut streams = Vec::new();
    for host in &hosts {
        let mut events = laptop.command(&["--host", host, "--cert", &mia, "events", "--since", "1h"]);
        let mut stream = events.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut first = [0];
        let read = std::io::Read::read(stream.stdout.as_mut().context("stdout")?, &mut first)?;
        ensure!(read == 1, "the stream does not begin");
        streams.push(stream);
    }
    let serial = lab.node(1).ok(&["operator", "ls", "--format", "{{.Name}} {{.Serial}}"])?;
    let serial = serial.lines().rev().find_map(|row| row.strip_prefix("mia ")).context("the second certificate")?;
    let taken = lab.node(1).ok(&["operator", "rm", serial.get(..12).context("serial")?])?;
    ensure!(taken == format!("mia {serial}"), "{taken}");
    for (host, certificate) in [(&hosts[0], &again), (&hosts[1], &again)] {
        let answer = ls(host, certificate)?;
        ensure!(
            answer.code() == 1 && answer.stderr.contains("operator mia is refused: its certificate was taken back"),
            "{answer:?}"
        );
        ensure!(ls(host, &mia)?.status.success(), "the other certificate goes on");
    }
    ensure!(streams.iter_mut().all(|stream| matches!(stream.try_wait(), Ok(None))), "a stream has ended too early");

    lab.node(2).ok(&["operator", "rm", "mia"])?;

    for stream in streams {
        let ended = stream.wait_with_output()?;
        let line = String::from_utf8_lossy(&ended.stderr).into_owned();
        ensure!(ended.status.code() == Some(1) && line.contains("its certificate was taken back"), "{ended:?}");
    }
    for host in &hosts {
        ensure!(ls(host, &mia)?.stderr.contains("its certificate was taken back"));
        ensure!(ls(host, &leo)?.status.success(), "another operator goes on");
    }
    let gone = lab.node(1).refused(5, &["operator", "rm", "mia"], b"")?;
    ensure!(gone.contains("operator mia has no certificate that was not taken back already"), "{gone}");
    ensure!(lab.node(1).refused(5, &["operator", "rm", "nobody"], b"")?.contains("operator nobody not found"));
    let states = lab.node(1).ok(&["operator", "ls", "--format", "{{.Name}} {{.Status}}"])?;
    ensure!(states == "leo Valid\nmia Revoked\nmia Revoked", "{states}");
    ensure!(lab.nodes().iter().any(|node| node.log().contains("operator.revoke")), "it is not on record");
    Ok(())
}

#[test]
fn operators_certificates_end_with_the_root_and_the_command_says_so() -> Result<()> {
    let lab = Lab::cluster(1, 0)?;
    let laptop = Laptop::of(&lab)?;
    let mia = laptop.certificate("mia", "admin")?;
    let host = format!("tcp://{}", lab.address(1));

    // From afar, with the very certificate that ends: the command is told of the end.
    let rotated: Answer = laptop.sctl(&["--host", &host, "--cert", &mia, "cluster", "ca", "--rotate"], b"")?;

    ensure!(rotated.status.success() && rotated.stdout.contains("BEGIN CERTIFICATE"), "{rotated:?}");
    ensure!(rotated.stderr.contains("of operator mia (admin) counts no more: make a new one"), "{rotated:?}");
    laptop.refused(1, &["--host", &host, "--cert", &mia, "secret", "ls"], "is of a root that was replaced")?;
    ensure!(lab.node(1).ok(&["operator", "ls", "--format", "{{.Status}}"])? == "Root replaced");
    let new = laptop.path("new.pem").display().to_string();
    lab.node(1).ok(&["operator", "create", "--role", "admin", "mia", &new])?;
    laptop.ok(&["--host", &host, "--cert", &new, "secret", "ls"])?;
    Ok(())
}
