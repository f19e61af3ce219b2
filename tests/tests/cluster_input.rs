//! What a cluster says to wrong commands: one line, the right exit code, and nothing half made.

use anyhow::{Result, ensure};
use secretd_tests::lab::{Lab, until_shown};
use secretd_tests::peer::rows_hold;

/// Refused with this code and these words.
fn refused(lab: &Lab, number: usize, code: i32, arguments: &[&str], words: &str) -> Result<()> {
    let line = lab.node(number).refused(code, arguments, b"")?;
    ensure!(line.contains(words), "sctl {arguments:?}: {line}");
    Ok(())
}

fn state(lab: &Lab, number: usize) -> Result<String> {
    lab.node(number).ok(&["info", "--format", "{{.Cluster.LocalNodeState}}"])
}

#[test]
fn tokens_that_do_not_count_are_refused_and_leave_nothing() -> Result<()> {
    let lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init"])?;
    lab.node(3).ok(&["cluster", "init"])?;
    let there = lab.address(1).to_owned();
    let join = |token: &str, code: i32, words: &str| {
        refused(&lab, 2, code, &["cluster", "join", "--token", token, &there], words)?;
        ensure!(state(&lab, 2)? == "inactive" && !lab.node(2).data_dir().join("membership").exists());
        Ok(())
    };
    let good = lab.token("worker")?;
    let foreign = lab.node(3).ok(&["cluster", "join-token", "-q", "worker"])?;
    let (root, secret) = (good.rsplit_once('-').unwrap_or_default().0, foreign.rsplit('-').next().unwrap_or_default());

    join("", 1, "a join token begins with `SCTL-1-`")?;
    join("SWMTKN-1-x-y", 1, "a join token begins with `SCTL-1-`")?;
    join(good.get(..good.len() - 1).unwrap_or_default(), 1, "a join token has 83 characters, this one has 82")?;
    join(
        &good.replace("SCTL-1-", "SCTL-1-Z").chars().take(83).collect::<String>(),
        1,
        "digits, small letters and dashes",
    )?;
    join(&foreign, 1, "it is no manager of the cluster that the token is for")?;
    join(&format!("{root}-{secret}"), 1, "it is not valid: ask for the present one")?;

    lab.node(1).ok(&["cluster", "join-token", "--rotate", "worker"])?;
    join(&good, 1, "it is not valid: ask for the present one")?;
    let expired = lab.node(1).ok(&["cluster", "join-token", "-q", "--rotate", "--ttl", "1ms", "worker"])?;
    join(&expired, 1, "it has expired: ask for a new one")?;
    let once = lab.node(1).ok(&["cluster", "join-token", "-q", "--rotate", "--uses", "1", "worker"])?;
    lab.node(2).ok(&["cluster", "join", "--token", &once, &there])?;
    lab.node(2).ok(&["cluster", "leave"])?;
    join(&once, 1, "it has been used as often as it may")?;

    ensure!(lab.node(1).log().contains("permission-denied"), "refused joins are not on record");
    ensure!(!lab.node(1).log().contains(&good) && !lab.node(2).log().contains(&good), "a token is in a log");
    let nodes = lab.node(1).ok(&["node", "ls", "-q"])?;
    ensure!(nodes.lines().count() == 2, "n1, and n2 as it was: {nodes}");
    rows_hold("tokens_that_do_not_count_are_refused_and_leave_nothing")
}

#[test]
fn workers_token_makes_no_manager() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let info = lab.node(2).ok(&["info", "--format", "{{.Cluster.ControlAvailable}}"])?;
    ensure!(info == "false", "{info}");
    refused(&lab, 2, 1, &["node", "promote", "n2"], "promote the current node to a manager")?;
    refused(&lab, 2, 1, &["cluster", "join-token", "manager"], "worker nodes can't be used")
}

#[test]
fn addresses_and_settings_are_checked_before_anything_is_made() -> Result<()> {
    let lab = Lab::start(2)?;
    let init = |arguments: &[&str], code: i32, words: &str| {
        refused(&lab, 1, code, &[&["cluster", "init"], arguments].concat(), words)?;
        ensure!(state(&lab, 1)? == "inactive" && !lab.node(1).data_dir().join("store").exists());
        Ok(())
    };
    init(&["--advertise-addr", "0.0.0.0"], 1, "advertise address must be a non-zero IP address or network interface")?;
    init(&["--advertise-addr", "n1.example"], 1, "advertise address must be a non-zero IP address")?;
    init(&["--listen-addr", "n1.example:1"], 1, "listening address must be an IP address or network interface")?;
    init(&["--listen-addr", "10.99.0.1"], 1, "cannot listen on 10.99.0.1:7377")?;
    init(&["--cert-expiry", "1s"], 1, "minimum certificate expiry time is: 10s")?;
    init(&["--dispatcher-heartbeat", "1ms"], 1, "the heartbeat period must be from 100ms to 1h")?;
    init(&["--availability", "gone"], 2, "invalid availability \"gone\", only active, pause and drain are supported")?;
    let prepared = lab.node(1).in_sandbox("ip addr add 10.78.0.1/24 dev eth0")?;
    ensure!(prepared.status.success(), "{prepared:?}");
    init(
        &[],
        1,
        "could not choose an IP address to advertise since this system has multiple addresses on interface eth0 (10.77.0.1 and 10.78.0.1)",
    )?;

    let listening = lab.node(1).in_sandbox("busybox nc -l -p 7377 >/dev/null 2>&1 </dev/null & echo $!")?;
    secretd_tests::lab::until("somebody listens", || {
        let ports = lab.node(1).in_sandbox("ss -ltn")?;
        Ok(ports.stdout.contains(":7377").then_some(()))
    })?;
    init(&["--advertise-addr", "eth0:7377"], 1, "interface eth0 has more than one IPv4 address")?;
    init(&["--advertise-addr", "10.77.0.1"], 1, "address already in use: stop what listens there")?;
    lab.node(1).in_sandbox(&format!("kill {}", listening.stdout.trim()))?;
    secretd_tests::lab::until("nobody listens", || {
        let ports = lab.node(1).in_sandbox("ss -ltn")?;
        Ok((!ports.stdout.contains(":7377")).then_some(()))
    })?;

    lab.node(1).ok(&["cluster", "init", "--advertise-addr", "10.77.0.1", "--availability", "drain"])?;
    refused(&lab, 1, 4, &["cluster", "init"], "this node is already part of a cluster: use \"sctl cluster leave\"")?;
    let row = lab.node(1).ok(&["node", "ls", "--format", "{{.Availability}}"])?;
    ensure!(row == "Drain", "{row}");

    let token = lab.token("worker")?;
    let join = |manager: &str, code: i32, words: &str| {
        refused(&lab, 2, code, &["cluster", "join", "--token", &token, manager], words)
    };
    join("10.77.0.9:7377", 1, "no manager of the cluster was reached: 10.77.0.9:7377: ")?;
    join("10.77.0.1:1", 1, "10.77.0.1:1: connection refused")?;
    refused(&lab, 2, 2, &["cluster", "join", "--token", &token], "HOST:PORT")?;
    refused(&lab, 2, 2, &["cluster", "join", "10.77.0.1"], "--token")?;
    lab.node(2).ok(&["cluster", "join", "--token", &token, "10.77.0.9", "10.77.0.1"])?;
    refused(&lab, 2, 4, &["cluster", "join", "--token", &token, "10.77.0.1"], "this node is already part of a cluster")?;
    rows_hold("addresses_and_settings_are_checked_before_anything_is_made")
}

#[test]
fn nodes_are_changed_only_in_ways_that_exist() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let node = lab.node(1);
    refused(
        &lab,
        1,
        2,
        &["node", "update", "--availability", "off", "n2"],
        "only active, pause and drain are supported",
    )?;
    refused(&lab, 1, 2, &["node", "update", "--role", "boss", "n2"], "only worker and manager are supported")?;
    refused(&lab, 1, 1, &["node", "update", "--label-rm", "ssd", "n2"], "key ssd doesn't exist in node's labels")?;
    refused(&lab, 1, 5, &["node", "update", "--availability", "drain", "n9"], "node n9 not found")?;
    refused(&lab, 1, 5, &["node", "rm", "n9"], "node n9 not found")?;
    refused(&lab, 1, 2, &["cluster", "join-token", "boss"], "unknown role boss")?;
    refused(&lab, 1, 2, &["cluster", "join-token", "--ttl", "1h", "worker"], "--rotate")?;
    refused(&lab, 1, 2, &["cluster", "update"], "nothing to change is given")?;
    refused(&lab, 1, 1, &["cluster", "update", "--cert-expiry", "1s"], "minimum certificate expiry time")?;

    node.ok(&["node", "update", "--label-add", "ssd=true", "--label-add", "zone=a", "n2"])?;
    node.ok(&["node", "update", "--label-rm", "zone", "--availability", "pause", "n2"])?;
    let shown = node.ok(&["node", "inspect", "n2", "--format", "{{json .Spec}}"])?;
    ensure!(shown.contains(r#""ssd":"true""#) && !shown.contains("zone") && shown.contains("pause"), "{shown}");
    ensure!(node.ok(&["cluster", "update", "--task-history-limit", "1"])? == "Cluster updated.");
    ensure!(node.ok(&["node", "ls", "-f", "node.label=ssd=true", "--format", "{{.Hostname}}"])? == "n2");
    ensure!(node.ok(&["node", "ls", "-f", "role=manager", "--format", "{{.Hostname}}"])? == "n1");
    rows_hold("nodes_are_changed_only_in_ways_that_exist")
}

#[test]
fn certificates_are_renewed_before_they_expire_and_after() -> Result<()> {
    let mut lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init", "--cert-expiry", "10s"])?;
    lab.join(2, "manager")?;
    lab.join(3, "worker")?;
    let renewals = |lab: &Lab, number: usize| lab.node(number).log().matches("has a new certificate").count();
    for number in 1..=3 {
        secretd_tests::lab::until("two renewals", || Ok((renewals(&lab, number) >= 2).then_some(())))?;
    }
    lab.node(2).ok_with(&["secret", "create", "key", "-"], b"x")?;

    // All of them are off until every certificate has expired.
    for number in 1..=3 {
        lab.node_mut(number).stop_daemon()?;
    }
    let off = std::time::Instant::now();
    secretd_tests::lab::until("they expire", || Ok((off.elapsed().as_secs() > 10).then_some(())))?;
    for number in [3, 2, 1] {
        lab.node_mut(number).start_daemon()?;
    }

    for number in 1..=2 {
        until_shown(lab.node(number), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "key")?;
    }
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    Ok(())
}
