//! What a cluster says to wrong commands: one line, the right exit code, and nothing half made.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use secretd_ca::JoinToken;
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::admission_client::AdmissionClient;
use secretd_proto::v1::control_client::ControlClient;
use secretd_proto::v1::raft_client::RaftClient;
use secretd_tests::lab::{Lab, until, until_created, until_demoted, until_shown, whoever_leads};
use secretd_tests::peer::rows_hold;
use secretd_tests::stranger::{Stranger, code, in_network_of};
use tonic::Status;

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

    let rotated = lab.node(1).ok(&["cluster", "join-token", "-q", "--rotate", "worker"])?;
    join(&good, 1, "it is not valid: ask for the present one")?;
    let expired = lab.node(1).ok(&["cluster", "join-token", "-q", "--rotate", "--ttl", "1ms", "worker"])?;
    join(&expired, 1, "it has expired: ask for a new one")?;
    let once = lab.node(1).ok(&["cluster", "join-token", "-q", "--rotate", "--uses", "1", "worker"])?;
    lab.node(2).ok(&["cluster", "join", "--token", &once, &there])?;
    lab.node(2).ok(&["cluster", "leave"])?;
    join(&once, 1, "it has been used as often as it may")?;

    ensure!(lab.node(1).log().contains("permission-denied"), "refused joins are not on record");
    let tokens = [("good", good), ("foreign", foreign), ("rotated", rotated), ("expired", expired), ("used", once)];
    for node in lab.nodes() {
        let log = node.log();
        ensure!(!log.is_empty());
        for (which, token) in &tokens {
            for form in forms(token)? {
                ensure!(!log.contains(&form), "the {which} token's secret is in a log: {form}");
            }
        }
    }
    let nodes = lab.node(1).ok(&["node", "ls", "-q"])?;
    ensure!(nodes.lines().count() == 2, "n1, and n2 as it was: {nodes}");
    rows_hold("tokens_that_do_not_count_are_refused_and_leave_nothing")
}

/// What a token's secret may look like where it must not be: as it is copied, cut or not, and as bytes.
fn forms(token: &str) -> Result<[String; 3]> {
    let parsed: JoinToken = token.parse()?;
    let bytes = parsed.secret.expose();
    let text = token.rsplit('-').next().and_then(|secret| secret.get(..16)).context("the secret")?;
    let hexadecimal = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers = bytes.map(|byte| byte.to_string()).join(", ");
    Ok([text.to_owned(), hexadecimal, numbers])
}

/// Something else listens on a node's port, until [`free`].
fn take_port(lab: &Lab, number: usize) -> Result<TcpListener> {
    in_network_of(lab, number, async || TcpListener::bind("0.0.0.0:7377").context("the port"))
}

fn free(lab: &Lab, number: usize, taken: TcpListener) -> Result<()> {
    drop(taken);
    until("nobody listens", || Ok((!listens(lab, number)?).then_some(()))) // a fork has it too, for a moment
}

/// Whether anybody listens on the port that managers have.
fn listens(lab: &Lab, number: usize) -> Result<bool> {
    Ok(lab.node(number).in_sandbox("ss -ltn")?.stdout.contains(":7377"))
}

#[test]
fn port_that_is_taken_keeps_a_manager_away_for_as_long_as_it_is_and_says_so() -> Result<()> {
    let mut lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init"])?;
    let token = lab.token("manager")?;
    let taken = take_port(&lab, 2)?;

    let join = ["cluster", "join", "--token", &token, lab.address(1)];
    let words = ":7377: address already in use: stop what listens there, or give another --listen-addr";
    refused(&lab, 2, 1, &join, words)?;

    ensure!(state(&lab, 2)? == "inactive" && !lab.node(2).data_dir().join("membership").exists());
    ensure!(lab.node(1).ok(&["node", "ls", "-q"])?.lines().count() == 1, "it was admitted");
    let other = ["cluster", "join", "--token", &token, "--listen-addr", "10.77.0.2:7378", lab.address(1)];
    lab.node(2).ok(&other)?;
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"];
    until_shown(lab.node(1), &nodes, |rows| whoever_leads(rows, "n1 Reachable\nn2 Reachable"))?;
    free(&lab, 2, taken)?;

    // A worker has no use for the port until it is to be a manager.
    lab.join(3, "worker")?;
    let taken = take_port(&lab, 3)?;
    lab.node(1).ok(&["node", "promote", "n3"])?;
    let info = until_shown(lab.node(3), &["info"], |info| info.contains(" Error: cannot listen on "))?;
    ensure!(
        info.contains("Cluster: pending") && info.to_lowercase().contains(":7377: address already in use"),
        "{info}"
    );
    until_shown(lab.node(1), &nodes, |rows| whoever_leads(rows, "n1 Reachable\nn2 Reachable\nn3 Unknown"))?;
    until_created(lab.node(2), "meanwhile", b"x")?;

    free(&lab, 3, taken)?;

    until_shown(lab.node(1), &nodes, |rows| whoever_leads(rows, "n1 Reachable\nn2 Reachable\nn3 Reachable"))?;
    until_shown(lab.node(3), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "meanwhile")?;
    let info = lab.node(3).ok(&["info"])?;
    ensure!(info.contains("Cluster: active") && !info.contains(" Error: "), "{info}");

    // One that starts again has its port, or does not start: whoever watches over it tries again.
    lab.node_mut(3).stop_daemon()?;
    let taken = take_port(&lab, 3)?;
    let line = lab.node(3).refused_start()?;
    ensure!(line.contains("cannot listen on ") && line.to_lowercase().contains("address already in use"), "{line}");
    free(&lab, 3, taken)?;
    lab.node_mut(3).start_daemon()?;
    until_shown(lab.node(1), &nodes, |rows| whoever_leads(rows, "n1 Reachable\nn2 Reachable\nn3 Reachable"))?;
    Ok(())
}

#[test]
fn member_that_cannot_go_on_says_so_and_is_made_nothing_else() -> Result<()> {
    let mut lab = Lab::start(2)?;
    let printed = lab.node(1).ok(&["cluster", "init", "--autolock"])?;
    let key = printed.split_whitespace().find(|word| word.starts_with("SCTLKEY-1-")).context("no unlock key")?;
    lab.node(1).ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let kek = ["node", "inspect", "self", "--format", "{{.Description.Secrets.KEK}}"];
    until_shown(lab.node(1), &kek, |kek| kek == "unlock-key")?;
    lab.node(2).ok(&["cluster", "init"])?;
    let elsewhere = lab.node(2).ok(&["cluster", "join-token", "-q", "worker"])?;
    lab.node_mut(1).stop_daemon()?;
    let taken = take_port(&lab, 1)?;
    lab.node_mut(1).start_daemon()?;

    let line = lab.node(1).refused(1, &["cluster", "unlock"], key.as_bytes())?;

    let words = "this node is part of a cluster, and cannot go on in it: cannot listen on ";
    ensure!(line.contains(words) && line.to_lowercase().contains("address already in use"), "{line}");
    ensure!(state(&lab, 1)? == "error" && lab.node(1).ok(&["info"])?.contains(words));
    let other = ["--listen-addr", "10.77.0.1:7378"];
    refused(&lab, 1, 1, &["secret", "ls"], words)?;
    refused(&lab, 1, 1, &[&["cluster", "init"], &other[..]].concat(), words)?;
    let join = ["cluster", "join", "--token", &elsewhere, lab.address(2)];
    refused(&lab, 1, 1, &[&join[..], &other].concat(), words)?;
    ensure!(lab.node(1).refused(1, &["cluster", "unlock"], key.as_bytes())?.contains(words));

    free(&lab, 1, taken)?;
    lab.node_mut(1).stop_daemon()?;
    lab.node_mut(1).start_daemon()?;
    lab.node(1).ok_with(&["cluster", "unlock"], key.as_bytes())?;
    until_shown(lab.node(1), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "kept").map(drop)
}

#[test]
fn workers_token_makes_no_manager() -> Result<()> {
    let lab = Lab::start(3)?;
    lab.node(1).ok(&["cluster", "init"])?;
    let (token, there) = (lab.token("worker")?, lab.address(1));
    // What a manager would say of itself changes nothing.
    let flags = ["--advertise-addr", "10.77.0.2:7377", "--listen-addr", "10.77.0.2:7377"];
    let told = lab.node(2).ok(&[&["cluster", "join", "--token", &token], &flags[..], &[there]].concat())?;
    ensure!(told == "This node joined a cluster as a worker." && !listens(&lab, 2)?, "{told}");
    let worker = lab.node(2).ok(&["info"])?;
    ensure!(worker.contains(" Is Manager: false") && !worker.contains(" Managers: "), "{worker}");
    let info = lab.node(2).ok(&["info", "--format", "{{.Cluster.ControlAvailable}}"])?;
    ensure!(info == "false", "{info}");
    refused(&lab, 2, 1, &["node", "promote", "n2"], "promote the current node to a manager")?;
    refused(&lab, 2, 1, &["cluster", "join-token", "manager"], "worker nodes can't be used")?;

    // Nor does what somebody asks for who is not secretd, with the certificate that the token has given.
    let refusals = in_network_of(&lab, 3, async || ask_as_manager(&token, there).await)?;

    for (call, refusal) in refusals {
        let status = refusal.err().with_context(|| format!("{call} was not refused"))?;
        let service = call.split('/').next().unwrap_or_default();
        let words = format!("it may not call {service}");
        ensure!(
            code(&status) == Some(Code::PermissionDenied) && status.message().contains(&words),
            "{call}: {status:?}"
        );
        let log = lab.node(1).log();
        let on_record = |line: &str| line.contains(&format!("{call}\"")) && line.contains("permission-denied");
        ensure!(log.lines().any(on_record), "{call} is not on record: {log}");
    }
    let managers = lab.node(1).ok(&["node", "ls", "-f", "role=manager", "--format", "{{.Hostname}}"])?;
    ensure!(managers == "n1", "{managers}");
    lab.node(1).ok_with(&["secret", "create", "after", "-"], b"x").map(drop)
}

/// Is admitted with a token as a manager would be, and makes with that certificate the calls that are for managers: what
/// came of each.
async fn ask_as_manager(token: &str, manager: &str) -> Result<Vec<(&'static str, Result<(), Status>)>> {
    let Stranger { manager: is_manager, credentials, channel, .. } = Stranger::join(token, manager, "n3").await?;
    ensure!(!is_manager, "it was admitted as a manager");
    let again = v1::RenewRequest { request: credentials.key.request()? };
    let renewed = AdmissionClient::new(channel.clone()).renew(again).await?.into_inner();
    ensure!(!renewed.manager, "it is a manager after it has its certificate renewed");

    let (mut raft, mut control) = (RaftClient::new(channel.clone()), ControlClient::new(channel));
    let join = v1::JoinRaftRequest { member: 3, address: "10.77.0.3:7377".to_owned() };
    let of_managers = v1::GetJoinTokenRequest { manager: true, ..v1::GetJoinTokenRequest::default() };
    Ok(vec![
        ("Raft/JoinRaft", raft.join_raft(join).await.map(drop)),
        ("Raft/Append", raft.append(v1::AppendRequest::default()).await.map(drop)),
        ("Raft/Vote", raft.vote(v1::VoteRequest::default()).await.map(drop)),
        ("Raft/InstallSnapshot", raft.install_snapshot(tokio_stream::empty()).await.map(drop)),
        ("Control/GetJoinToken", control.get_join_token(of_managers).await.map(drop)),
        ("Control/Backup", control.backup(v1::BackupRequest::default()).await.map(drop)),
    ])
}

#[test]
fn certificate_of_a_removed_manager_counts_for_nothing_though_nobody_leads() -> Result<()> {
    let mut lab = Lab::start(4)?;
    lab.node(1).ok(&["cluster", "init"])?;
    for number in [2, 3] {
        lab.join(number, "manager")?;
    }
    let token = lab.token("manager")?;
    let address = lab.address(1);
    let leader = lab.leader(1)?;
    let asked = if leader == 1 { 2 } else { 1 };
    let kept = in_network_of(&lab, 4, async || Stranger::join(&token, address, "n4").await)?;
    until_demoted(lab.node(1), &kept.id)?;
    lab.node(1).ok(&["node", "rm", "--force", &kept.id])?;
    until_shown(lab.node(asked), &["--stale", "node", "ls", "-q"], |ids| ids.lines().count() == 3)?;
    let lost: Vec<usize> = (1..=3).filter(|number| *number != asked).collect();
    for number in &lost {
        lab.node_mut(*number).kill_daemon()?;
    }
    ensure!(lost.contains(&leader));
    lab.node(asked).refused(3, &["node", "ls"], b"")?; // nobody leads that it knows of

    let there = lab.address(asked);
    let refusals = in_network_of(&lab, 4, async || {
        let mut raft = RaftClient::new(kept.badge()?.connect(there).await?);
        Ok([
            raft.append(v1::AppendRequest::default()).await.map(drop),
            raft.vote(v1::VoteRequest::default()).await.map(drop),
            raft.install_snapshot(tokio_stream::empty()).await.map(drop),
            raft.join_raft(v1::JoinRaftRequest::default()).await.map(drop),
        ])
    })?;

    for refusal in refusals {
        let status = refusal.err().context("it was not refused")?;
        ensure!(code(&status) == Some(Code::NodeRemoved), "{status:?}");
    }
    for number in lost {
        lab.node_mut(number).start_daemon()?;
    }
    until_shown(lab.node(asked), &["info", "--format", "{{.Cluster.LocalNodeState}}"], |state| state == "active")?;
    until_shown(lab.node(asked), &["node", "ls", "-q"], |ids| ids.lines().count() == 3).map(drop)
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
    init(&["--advertise-addr", "10.77.0.1:0"], 1, "other nodes cannot reach 10.77.0.1:0")?;
    init(&["--listen-addr", "10.77.0.1:0"], 1, "listening port must be from 1 to 65535")?;
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

    let taken = take_port(&lab, 1)?;
    init(&["--advertise-addr", "eth0:7377"], 1, "interface eth0 has more than one IPv4 address")?;
    init(&["--advertise-addr", "10.77.0.1"], 1, "address already in use: stop what listens there")?;
    free(&lab, 1, taken)?;

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
    refused(
        &lab,
        2,
        4,
        &["cluster", "join", "--token", &token, "10.77.0.1"],
        "this node is already part of a cluster",
    )?;
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
    refused(
        &lab,
        1,
        1,
        &["cluster", "update", "--cert-expiry", "175201h"],
        "maximum certificate expiry time is: 175200h",
    )?;
    for label in ["a\nb=c", "a=\u{1b}[31mred"] {
        refused(&lab, 1, 1, &["node", "update", "--label-add", label, "n2"], "no control characters in key or value")?;
    }

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
    lab.node(1).ok(&["cluster", "init", "--cert-expiry", "20s"])?;
    lab.join(2, "manager")?;
    lab.join(3, "worker")?;
    let renewals = |lab: &Lab, number: usize| lab.node(number).log().matches("has a new certificate").count();
    for number in 1..=3 {
        until("two renewals", || Ok((renewals(&lab, number) >= 2).then_some(())))?;
    }
    until_created(lab.node(2), "key", b"x")?;

    // All of them are off until every certificate has expired.
    for number in 1..=3 {
        lab.node_mut(number).stop_daemon()?;
    }
    let off = std::time::Instant::now();
    until("they expire", || Ok((off.elapsed().as_secs() > 20).then_some(())))?;
    for number in [3, 2, 1] {
        lab.node_mut(number).start_daemon()?;
    }

    for number in 1..=2 {
        until_shown(lab.node(number), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "key")?;
    }
    until_shown(lab.node(1), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    Ok(())
}
