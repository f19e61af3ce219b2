//! What people who know Docker Swarm type, and what they are told: lists, references, settings, flags that are not there,
//! and nodes that are not what a command needs. `docs/from-swarm.md` has the table that these stories hold.

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::{Lab, until, until_created, until_demoted, until_shown};
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

/// What a script has done in a node's network.
fn prepare(lab: &Lab, number: usize, script: &str) -> Result<()> {
    let prepared = lab.node(number).in_sandbox(script)?;
    ensure!(prepared.status.success(), "{script}: {prepared:?}");
    Ok(())
}

#[test]
fn addresses_that_cannot_be_chosen_are_refused_at_init_and_at_join() -> Result<()> {
    let lab = Lab::start(2)?;
    prepare(&lab, 1, "ip link add x0 type veth peer name x1 && ip link set x0 up && ip addr add 10.79.0.1/24 dev x0")?;
    refused(
        &lab,
        1,
        1,
        &["cluster", "init"],
        "could not choose an IP address to advertise since this system has multiple addresses on different interfaces (10.77.0.1 on eth0 and 10.79.0.1 on x0): specify one with --advertise-addr",
    )?;
    prepare(&lab, 1, "ip link del x0 && ip addr flush dev eth0")?;
    refused(&lab, 1, 1, &["cluster", "init"], "could not find the system's IP address")?;
    prepare(&lab, 1, "ip addr add 10.77.0.1/24 dev eth0")?;
    lab.node(1).ok(&["cluster", "init", "--advertise-addr", "eth0"])?;

    let token = lab.token("manager")?;
    let join = |flags: &[&str], code: i32, words: &str| {
        let first = ["cluster", "join", "--token", &token];
        refused(&lab, 2, code, &[&first, flags, &["10.77.0.1"]].concat(), words)?;
        ensure!(state(&lab, 2)? == "inactive");
        Ok(())
    };
    join(&["--advertise-addr", "0.0.0.0"], 1, "advertise address must be a non-zero IP address or network interface")?;
    join(&["--advertise-addr", "n2.example"], 1, "advertise address must be a non-zero IP address")?;
    join(&["--listen-addr", "n2.example"], 1, "listening address must be an IP address or network interface")?;
    join(&["--listen-addr", "10.99.0.1"], 1, "cannot listen on 10.99.0.1:7377")?;
    join(&["--availability", "off"], 2, "invalid availability \"off\", only active, pause and drain are supported")?;
    let admitted = lab.node(1).ok(&["node", "ls", "-q"])?;
    ensure!(admitted.lines().count() == 1, "a refused node was admitted: {admitted}");
    rows_hold("addresses_that_cannot_be_chosen_are_refused_at_init_and_at_join")
}

#[test]
fn flags_that_are_not_there_are_refused_by_name_and_with_the_reason() -> Result<()> {
    let lab = Lab::start(1)?;
    let shortened = "the log is shortened every 500 changes";
    for (flag, value, reason) in [
        ("--snapshot-interval", "100", shortened),
        ("--max-snapshots", "1", "old snapshots are not kept"),
        ("--external-ca", "protocol=cfssl,url=https://x", "there is no external one"),
        ("--data-path-addr", "eth0", "there are no overlay networks yet"),
        ("--data-path-port", "4789", "there are no overlay networks yet"),
        ("--default-addr-pool", "10.0.0.0/8", "there are no overlay networks yet"),
        ("--default-addr-pool-mask-length", "24", "there are no overlay networks yet"),
    ] {
        let line = lab.node(1).refused(2, &["cluster", "init", flag, value], b"")?;
        ensure!(line.contains(flag) && line.contains(reason), "{line}");
    }
    ensure!(state(&lab, 1)? == "inactive");
    refused(&lab, 1, 2, &["cluster", "join", "--token", "x", "--data-path-addr", "eth0", "x"], "--data-path-addr")?;
    lab.node(1).ok(&["cluster", "init"])?;
    refused(&lab, 1, 2, &["cluster", "update", "--snapshot-interval", "100"], shortened)?;
    refused(&lab, 1, 2, &["service", "create", "--generic-resource", "gpu=1", "busybox:1"], "--generic-resource")?;
    let mut daemon = lab.node(1).daemon_command();
    let daemon = secretd_tests::command::run(daemon.args(["--node-generic-resource", "gpu=1"]), b"")?;
    ensure!(daemon.code() == 2 && daemon.stderr.contains("--node-generic-resource"), "{daemon:?}");
    rows_hold("flags_that_are_not_there_are_refused_by_name_and_with_the_reason")
}

#[test]
fn settings_of_a_cluster_are_checked_shown_and_changed() -> Result<()> {
    let lab = Lab::start(1)?;
    let negative = "heartbeat time period cannot be a negative duration";
    refused(&lab, 1, 2, &["cluster", "init", "--dispatcher-heartbeat", "-1s"], negative)?;
    refused(&lab, 1, 2, &["cluster", "init", "--cert-expiry", "-1s"], "a duration cannot be negative")?;
    refused(&lab, 1, 2, &["cluster", "init", "--task-history-limit", "few"], "give a number of tasks, or -1")?;
    refused(&lab, 1, 1, &["cluster", "init", "--cert-expiry", "0s"], "minimum certificate expiry time is: 10s")?;
    ensure!(state(&lab, 1)? == "inactive");
    lab.node(1).ok(&["cluster", "init", "--cert-expiry", "720h"])?;
    let settings = |lab: &Lab| lab.node(1).ok(&["info", "--format", "{{json .Cluster.Cluster.Spec}}"]);
    let first = settings(&lab)?;
    for words in ["\"TaskHistoryRetentionLimit\":5", "\"HeartbeatPeriod\":\"1s250ms\"", "\"NodeCertExpiry\":\"720h\""] {
        ensure!(first.contains(words), "{first}");
    }

    refused(&lab, 1, 2, &["cluster", "update", "--dispatcher-heartbeat", "-5s"], negative)?;
    refused(&lab, 1, 1, &["cluster", "update", "--dispatcher-heartbeat", "2h"], "must be from 100ms to 1h")?;
    refused(&lab, 1, 2, &["cluster", "update", "--autolock=perhaps"], "perhaps")?;
    refused(&lab, 1, 2, &["cluster", "update"], "nothing to change is given")?;
    ensure!(settings(&lab)? == first, "a refused change has changed something");
    lab.node(1).ok(&["cluster", "update", "--dispatcher-heartbeat", "1m30s", "--task-history-limit", "-1"])?;
    let second = settings(&lab)?;
    ensure!(second.contains("\"TaskHistoryRetentionLimit\":-1") && second.contains("\"1m30s\""), "{second}");
    let info = lab.node(1).ok(&["info"])?;
    ensure!(info.contains(" Task History Retention Limit: -1") && info.contains(" Node Address: 10.77.0.1:7377"));
    rows_hold("settings_of_a_cluster_are_checked_shown_and_changed")
}

#[test]
fn two_managers_are_warned_of_and_neither_leaves_by_mistake() -> Result<()> {
    let lab = Lab::cluster(2, 0)?;
    let info = lab.node(2).sctl(&["info"], b"")?;
    ensure!(info.code() == 0, "{info:?}");
    ensure!(info.stderr.contains("WARNING: running the cluster in a two-manager configuration"), "{info:?}");
    ensure!(info.stderr.contains("provides no fault tolerance"), "{info:?}");
    let leave = lab.node(2).refused(4, &["cluster", "leave"], b"")?;
    ensure!(leave.contains("demote it first with \"sctl node demote self\", or use --force"), "{leave}");
    ensure!(leave.contains("you are attempting to leave the cluster on a node that is participating as a manager"));

    until_demoted(lab.node(1), "n2")?;

    let info = lab.node(1).sctl(&["info"], b"")?;
    ensure!(info.code() == 0 && !info.stderr.contains("two-manager"), "{info:?}");
    rows_hold("two_managers_are_warned_of_and_neither_leaves_by_mistake")
}

#[test]
fn manager_without_which_the_others_are_too_few_is_not_demoted() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    lab.node_mut(3).kill_daemon()?;
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"];
    until_shown(lab.node(1), &nodes, |rows| rows.contains("n3 Unreachable"))?;

    // Whoever leads knows who is silent, and one that comes to lead hears of it within a second.
    let words = "removing this node leaves 1 managers out of 3; without a quorum the cluster will be inaccessible, and the only way to restore it is \"sctl cluster init --force-new-cluster\"";
    until("the leader is told what becomes of the cluster without it", || {
        let leave = lab.node(lab.leader(1)?).refused(4, &["cluster", "leave"], b"")?;
        Ok(leave.contains(words).then_some(()))
    })?;
    for (code, command, words) in [
        (3, &["node", "demote", "n2"][..], "the cluster would lose its quorum"),
        (3, &["node", "update", "--role", "worker", "n2"], "the cluster would lose its quorum"),
        (4, &["node", "rm", "--force", "n3"], "node n3 is a manager: demote it with"),
    ] {
        until("it is refused", || refused(&lab, 1, code, command, words).map(Some))?;
    }

    // The one that is lost may be taken out.
    until_demoted(lab.node(1), "n3")?;
    until_created(lab.node(1), "after", b"x")?;
    lab.node(1).ok(&["node", "rm", "--force", "n3"])?;
    rows_hold("manager_without_which_the_others_are_too_few_is_not_demoted")
}

#[test]
fn nodes_are_meant_by_id_name_or_prefix_and_never_by_chance() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let (node, id) = (lab.node(1), lab.id(2)?);
    let role = ["node", "inspect", "--format", "{{.Spec.Role}} {{.ID}}"];
    for reference in ["n2", &id, &id[..20]] {
        ensure!(node.ok(&[&role, &[reference][..]].concat())? == format!("worker {id}"), "{reference}");
    }
    ensure!(node.ok(&[&role, &["self"][..]].concat())?.starts_with("manager "));
    // The same machine comes back as another node of the same name.
    lab.node(2).ok(&["cluster", "leave"])?;
    lab.join(2, "worker")?;

    refused(&lab, 1, 4, &["node", "inspect", "n2"], "node n2 is ambiguous (2 matches found)")?;
    refused(&lab, 1, 4, &["node", "update", "--availability", "drain", "n2"], "node n2 is ambiguous")?;
    refused(&lab, 1, 4, &["node", "rm", "n2"], "node n2 is ambiguous")?;
    refused(&lab, 1, 4, &["node", "promote", "n2"], "node n2 is ambiguous")?;
    for command in [&["inspect"][..], &["ps"], &["promote"], &["demote"], &["rm"], &["update", "--role", "worker"]] {
        refused(&lab, 1, 5, &[&["node"], command, &["n9"]].concat(), "node n9 not found")?;
    }
    refused(&lab, 1, 1, &["node", "inspect", ""], "the reference of a node is empty")?;
    // What is found is shown, and what is not is told.
    let both = node.sctl(&["node", "inspect", "--format", "{{.ID}}", "n9", &id], b"")?;
    ensure!(both.code() == 5 && both.stdout.trim() == id && both.stderr.contains("node n9 not found"), "{both:?}");
    node.ok(&["node", "rm", &id])?;
    ensure!(node.ok(&["node", "inspect", "--format", "{{.Status.State}}", "n2"])? == "ready");
    rows_hold("nodes_are_meant_by_id_name_or_prefix_and_never_by_chance")
}

#[test]
fn lists_of_nodes_are_filtered_and_sorted_as_people_count() -> Result<()> {
    let mut lab = Lab::start_with(3, &["--label", "rack=7"])?;
    for (number, name) in [(2, "n10"), (3, "n9")] {
        lab.node_mut(number).stop_daemon()?;
        prepare(&lab, number, &format!("echo {name} > /proc/sys/kernel/hostname"))?;
        lab.node_mut(number).start_daemon()?;
    }
    lab.node(1).ok(&["cluster", "init"])?;
    lab.join(2, "worker")?;
    lab.join(3, "worker")?;
    let node = lab.node(1);
    node.ok(&["node", "update", "--label-add", "ssd=true", "--label-add", "old", "n9"])?;
    let names = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["-f", *filter]).collect();
        let names = node.ok(&[&["node", "ls"], filters.as_slice(), &["--format", "{{.Hostname}}"]].concat())?;
        Ok::<_, anyhow::Error>(names.replace('\n', " "))
    };

    ensure!(names(&[])? == "n1 n9 n10", "{}", names(&[])?);
    for (filters, expected) in [
        (&["name=n1"][..], "n1 n10"),
        (&["name=n9", "name=n10"], "n9 n10"),
        (&["name=n1", "role=worker"], "n10"),
        (&["role=manager"], "n1"),
        (&["node.label=ssd"], "n9"),
        (&["node.label=ssd=true", "node.label=old"], "n9"),
        (&["node.label=ssd=false"], ""),
        (&["label=rack=7"], "n1 n9 n10"),
        (&["label=rack=8"], ""),
        (&["membership=accepted"], "n1 n9 n10"),
        (&["membership=pending"], ""),
    ] {
        ensure!(names(filters)? == expected, "{filters:?}: {}", names(filters)?);
    }
    let id = lab.id(2)?;
    ensure!(names(&[&format!("id={}", &id[..22])])? == "n10");
    refused(&lab, 1, 1, &["node", "ls", "-f", "role=boss"], "invalid role filter: 'boss'")?;
    refused(&lab, 1, 1, &["node", "ls", "-f", "membership=maybe"], "invalid membership filter: 'maybe'")?;
    refused(&lab, 1, 1, &["node", "ls", "-f", "colour=red"], "invalid filter 'colour'")?;
    refused(&lab, 1, 2, &["node", "ls", "-f", "role"], "a filter is KEY=VALUE")?;

    let table = node.ok(&["node", "ls"])?;
    let head: Vec<&str> =
        table.lines().next().context("no head")?.split("  ").filter(|word| !word.is_empty()).collect();
    let head: Vec<&str> = head.into_iter().map(str::trim).collect();
    ensure!(head == ["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "ENGINE VERSION"], "{table}");
    let own = table.lines().nth(1).context("no row")?;
    ensure!(own.contains(&format!("{} *", lab.id(1)?)) && table.matches('*').count() == 1, "{table}");
    ensure!(node.ok(&["node", "ls", "-q"])?.lines().any(|line| line == id));
    rows_hold("lists_of_nodes_are_filtered_and_sorted_as_people_count")
}

#[test]
fn nodes_are_updated_shown_and_listed_with_their_tasks() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let node = lab.node(1);
    let flags = ["--name", "app", "--replicas", "4", "--stop-signal", "KILL", "busybox:1", "sleep", "10000"];
    node.create_service(&flags)?;
    let ps = |arguments: &[&str]| {
        let rows = node.ok(&[&["node", "ps", "--format", "{{.Node}} {{.Name}}"], arguments].concat())?;
        Ok::<_, anyhow::Error>(rows.lines().count())
    };
    ensure!(ps(&[])? == 2 && ps(&["n2"])? == 2 && ps(&["self", "n2"])? == 4);
    ensure!(ps(&["n2", "-f", "desired-state=shutdown"])? == 0 && ps(&["n1", "n2", "-f", "name=app.1"])? == 1);
    refused(&lab, 1, 1, &["node", "ps", "-f", "colour=red"], "invalid filter 'colour'")?;
    refused(&lab, 1, 1, &["node", "ps", "-f", "desired-state=gone"], "there is no such state")?;

    refused(&lab, 1, 2, &["node", "update", "n2"], "nothing to change is given: see \"sctl node update --help\"")?;
    refused(&lab, 1, 1, &["node", "update", "--label-rm", "none", "n2"], "key none doesn't exist in node's labels")?;
    refused(&lab, 1, 2, &["node", "inspect", "--pretty", "--format", "{{.ID}}", "n2"], "cannot be used with")?;
    node.ok(&["node", "update", "--role", "manager", "--label-add", "zone=a", "n2"])?;
    let row = ["node", "ls", "-f", "name=n2", "--format", "{{.ManagerStatus}}"];
    until_shown(node, &row, |status| status == "Reachable")?;
    let pretty = node.ok(&["node", "inspect", "--pretty", "n2"])?;
    ensure!(pretty.contains("Hostname: n2") && pretty.contains("zone: a") && pretty.contains("Role: manager"));
    node.ok(&["node", "update", "--role", "worker", "n2"])?;
    ensure!(node.ok(&["node", "demote", "n2"])? == "Node n2 is already a worker.");
    ensure!(node.ok(&["node", "promote", "n1"])? == "Node n1 is already a manager.");
    rows_hold("nodes_are_updated_shown_and_listed_with_their_tasks")
}

#[test]
fn node_that_is_not_what_a_command_needs_says_what_it_is() -> Result<()> {
    let lab = Lab::cluster(1, 1)?;
    let outside = Lab::start(1)?;
    let inactive = "use \"sctl cluster init\" or \"sctl cluster join\" to connect this node to a cluster and try again";
    let worker = "worker nodes can't be used to view or modify cluster state: run this command on a manager node or promote the current node to a manager";
    for command in [
        &["node", "ls"][..],
        &["secret", "ls"],
        &["service", "ls"],
        &["cluster", "join-token", "worker"],
        &["cluster", "unlock-key"],
        &["cluster", "update", "--autolock"],
        &["node", "inspect", "self"],
    ] {
        refused(&outside, 1, 1, command, inactive)?;
        refused(&lab, 2, 1, command, worker)?;
    }
    refused(&outside, 1, 1, &["cluster", "leave"], "this node is not part of a cluster")?;
    refused(&outside, 1, 1, &["cluster", "leave", "--force"], "this node is not part of a cluster")?;
    let unlock = outside.node(1).refused(1, &["cluster", "unlock"], b"SCTLKEY-1-x")?;
    ensure!(unlock.contains("this node is not part of a cluster"), "{unlock}");
    let unlock = lab.node(1).refused(4, &["cluster", "unlock"], b"SCTLKEY-1-x")?;
    ensure!(unlock.contains("this node is not locked"), "{unlock}");
    refused(&outside, 1, 1, &["cluster", "init", "--force-new-cluster"], "this node is not part of a cluster")?;
    refused(&lab, 2, 4, &["cluster", "init"], "this node is already part of a cluster")?;
    refused(&lab, 1, 4, &["cluster", "init"], "this node is already part of a cluster")?;
    refused(&lab, 1, 4, &["cluster", "unlock-key"], "no unlock key is set")?;
    refused(&lab, 1, 4, &["cluster", "unlock-key", "--rotate"], "cannot rotate because autolock is not turned on")?;
    ensure!(lab.node(2).ok(&["cluster", "leave"])? == "Node left the cluster.");
    rows_hold("node_that_is_not_what_a_command_needs_says_what_it_is")
}

#[test]
fn manager_that_others_cannot_reach_says_so_and_harms_nobody() -> Result<()> {
    let lab = Lab::start(2)?;
    lab.node(1).ok(&["cluster", "init"])?;
    let token = lab.token("manager")?;
    let join = ["cluster", "join", "--token", &token, "--advertise-addr", "10.77.0.99", lab.address(1)];

    refused(&lab, 2, 3, &join, "timeout was reached before the node joined: it goes on in the background")?;

    let preparing = "manager is being prepared or has trouble connecting to the cluster: see \"sctl info\"";
    refused(&lab, 2, 1, &["node", "ls"], preparing)?;
    refused(&lab, 2, 1, &["secret", "ls"], preparing)?;
    let reason = "does not reach the new manager";
    let info = until_shown(lab.node(2), &["info"], |info| info.contains(" Error: ") && info.contains(reason))?;
    ensure!(
        info.contains("Cluster: pending")
            && info.contains("(--advertise-addr)")
            && info.contains(" Node Address: 10.77.0.99:7377"),
        "{info}"
    );
    lab.node(1).ok_with(&["secret", "create", "meanwhile", "-"], b"x")?;
    // It is mended by hand, with commands that there are.
    lab.node(2).ok(&["cluster", "leave", "--force"])?;
    until_demoted(lab.node(1), "n2")?;
    lab.node(1).ok(&["node", "rm", "--force", "n2"])?;
    lab.join(2, "manager")?;
    until_shown(lab.node(2), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "meanwhile")?;
    rows_hold("manager_that_others_cannot_reach_says_so_and_harms_nobody")
}
