//! Keys at rest: a manager that is locked says so and nothing else, and each source of the key-encryption key is changed
//! while the node serves.

use anyhow::{Result, ensure};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::node::Node;
use secretd_tests::peer::rows_hold;

fn kek(node: &Node) -> Result<String> {
    node.ok(&["node", "inspect", "self", "--format", "{{.Description.Secrets.KEK}} {{.Description.Secrets.KEKSecure}}"])
}

fn until_kek(node: &Node, wanted: &str) -> Result<()> {
    until(&format!("the data key is wrapped by {wanted}"), || Ok((kek(node)? == wanted).then_some(())))
}

fn restart(node: &mut Node) -> Result<()> {
    node.stop_daemon()?;
    node.start_daemon()
}

/// How often the node's data key was wrapped anew.
fn wrapped(node: &Node) -> usize {
    node.log().matches("the node's data key is wrapped anew").count()
}

/// The last word of what was printed that begins as an unlock key does.
fn key_in(text: &str) -> String {
    text.split_whitespace().find(|word| word.starts_with("SCTLKEY-1-")).unwrap_or_default().to_owned()
}

#[test]
fn locked_manager_says_so_and_nothing_else_until_it_has_the_key() -> Result<()> {
    let mut lab = Lab::start(2)?;
    let printed = lab.node(1).ok(&["cluster", "init", "--autolock"])?;
    let key = key_in(&printed);
    ensure!(!key.is_empty() && printed.contains("Keep this key in a safe place"), "{printed}");
    lab.node(1).ok_with(&["secret", "create", "kept", "-"], b"x")?;
    until_kek(lab.node(1), "unlock-key true")?;
    ensure!(!lab.node(1).data_dir().join("keys/kek").exists(), "the old key is on the disk still");
    ensure!(lab.node(1).ok(&["cluster", "unlock-key", "-q"])? == key);
    lab.join(2, "manager")?;
    until_kek(lab.node(2), "unlock-key true")?;

    for number in [1, 2] {
        restart(lab.node_mut(number))?;
    }
    let node = lab.node(1);
    let locked = "the cluster is encrypted and needs to be unlocked before it can be used: use \"sctl cluster unlock\"";
    let file = node.path("file").display().to_string();
    std::fs::write(&file, b"x")?;
    let backup = node.path("backup").display().to_string();
    for command in [
        &["secret", "ls"][..],
        &["secret", "create", "s", file.as_str()],
        &["secret", "inspect", "kept"],
        &["secret", "update", "kept", file.as_str()],
        &["secret", "rm", "kept"],
        &["service", "ls"],
        &["service", "create", "busybox:1"],
        &["service", "ps", "s"],
        &["service", "logs", "s"],
        &["service", "rm", "s"],
        &["exec", "s.1", "true"],
        &["node", "ls"],
        &["node", "inspect", "self"],
        &["node", "ps"],
        &["node", "promote", "n2"],
        &["node", "update", "--availability", "drain", "n2"],
        &["node", "rm", "n2"],
        &["node", "rekey", "--file"],
        &["node", "rekey", "--data-key"],
        &["operator", "create", "--role", "viewer", "mia", "/nowhere"],
        &["cluster", "update", "--autolock=false"],
        &["cluster", "join-token", "worker"],
        &["cluster", "unlock-key"],
        &["cluster", "backup", "-q", backup.as_str()],
        &["cluster", "init", "--force-new-cluster"],
        &["cluster", "join", "--token", "SCTL-1-x", "10.77.0.2"],
    ] {
        let answer = node.sctl(command, b"")?;
        ensure!(answer.code() == 1 && answer.stderr.contains(locked), "{command:?}: {answer:?}");
    }
    ensure!(!node.path("backup").exists() && !node.path("backup.partial").exists(), "something is left");
    let info = node.ok(&["info", "--format", "{{.Cluster.LocalNodeState}} {{.Cluster.NodeID}}"])?;
    ensure!(info.trim() == "locked", "{info}");
    let init = node.refused(1, &["cluster", "init"], b"")?;
    ensure!(init.contains(locked), "{init}");
    let leave = node.refused(1, &["cluster", "leave"], b"")?;
    ensure!(leave.contains("encrypted and locked: unlock it first, or use --force"), "{leave}");

    let typed = node.refused(1, &["cluster", "unlock"], b"SCTLKEY-1-nonsense\n")?;
    ensure!(typed.contains("an unlock key begins with `SCTLKEY-1-` and has 56 more characters"), "{typed}");
    let empty = node.refused(1, &["cluster", "unlock"], b"")?;
    ensure!(empty.contains("standard input is empty"), "{empty}");
    let other = "SCTLKEY-1-".to_owned() + &"0".repeat(56);
    let wrong = node.refused(1, &["cluster", "unlock"], other.as_bytes())?;
    ensure!(wrong.contains("could not be unlocked"), "{wrong}");

    for number in [1, 2] {
        ensure!(lab.node(number).ok_with(&["cluster", "unlock"], key.as_bytes())? == "Node unlocked.");
    }
    for number in [1, 2] {
        until_shown(lab.node(number), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "kept")?;
    }
    let again = lab.node(1).refused(4, &["cluster", "unlock"], key.as_bytes())?;
    ensure!(again.contains("this node is not locked"), "{again}");
    ensure!(!lab.node(1).log().contains(&key) && !lab.node(2).log().contains(&key), "the key is in a log");
    rows_hold("locked_manager_says_so_and_nothing_else_until_it_has_the_key")
}

#[test]
fn unlock_key_is_rotated_while_managers_serve_and_while_one_is_away() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    let refused = lab.node(1).refused(4, &["cluster", "unlock-key", "--rotate"], b"")?;
    ensure!(refused.contains("cannot rotate because autolock is not turned on"), "{refused}");
    let first = key_in(&lab.node(1).ok(&["cluster", "update", "--autolock"])?);
    for number in 1..=3 {
        until_kek(lab.node(number), "unlock-key true")?;
    }
    lab.node_mut(3).stop_daemon()?;
    let so_far = wrapped(lab.node(1));
    let second = key_in(&lab.node(2).ok(&["cluster", "unlock-key", "--rotate"])?);
    ensure!(first != second && !second.is_empty());
    until("n1 has the new key", || Ok((wrapped(lab.node(1)) > so_far).then_some(())))?;
    restart(lab.node_mut(1))?;

    let old = lab.node(1).refused(1, &["cluster", "unlock"], first.as_bytes())?;
    ensure!(old.contains("invalid key provided"), "{old}");
    lab.node(1).ok_with(&["cluster", "unlock"], second.as_bytes())?;
    // The one that was away has the old key, and the new one when it has heard of it.
    lab.node_mut(3).start_daemon()?;
    lab.node(3).ok_with(&["cluster", "unlock"], first.as_bytes())?;
    until_shown(lab.node(3), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    until("it is wrapped by the new key", || Ok((wrapped(lab.node(3)) >= 2).then_some(())))?;
    restart(lab.node_mut(3))?;
    lab.node(3).ok_with(&["cluster", "unlock"], second.as_bytes())?;

    // Without autolock nobody is asked.
    lab.node(1).ok(&["cluster", "update", "--autolock=false"])?;
    for number in 1..=3 {
        until_kek(lab.node(number), "file false")?;
    }
    let none = lab.node(1).refused(4, &["cluster", "unlock-key"], b"")?;
    ensure!(none.contains("no unlock key is set"), "{none}");
    restart(lab.node_mut(2))?;
    until_shown(lab.node(2), &["node", "ls", "--format", "{{.Status}}"], |all| all == "Ready\nReady\nReady")?;
    rows_hold("unlock_key_is_rotated_while_managers_serve_and_while_one_is_away")
}

#[test]
fn passphrase_and_credential_protect_a_single_node() -> Result<()> {
    let mut lab = Lab::cluster(1, 0)?;
    lab.node(1).ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let short = lab.node(1).refused(1, &["node", "rekey", "--passphrase"], b"short\n")?;
    ensure!(short.contains("a passphrase has at least 8 bytes"), "{short}");
    let missing = lab.node(1).refused(1, &["node", "rekey", "--credential"], b"")?;
    ensure!(missing.contains("systemd has handed over no credential `secretd-kek`"), "{missing}");
    lab.node(1).refused(2, &["node", "rekey"], b"")?;

    let told = lab.node(1).ok_with(&["node", "rekey", "--passphrase"], b"correct horse\n")?;
    ensure!(told.contains("passphrase (secure)"), "{told}");
    until_kek(lab.node(1), "passphrase true")?;
    restart(lab.node_mut(1))?;
    let wrong = lab.node(1).refused(1, &["cluster", "unlock"], b"wrong horse")?;
    ensure!(wrong.contains("invalid key provided"), "{wrong}");
    lab.node(1).ok_with(&["cluster", "unlock"], b"correct horse")?;
    ensure!(lab.node(1).ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");

    // Another passphrase, and back to a file: the one before opens nothing.
    lab.node(1).ok_with(&["node", "rekey", "--passphrase"], b"battery staple\n")?;
    restart(lab.node_mut(1))?;
    lab.node(1).refused(1, &["cluster", "unlock"], b"correct horse")?;
    lab.node(1).ok_with(&["cluster", "unlock"], b"battery staple")?;
    let told = lab.node(1).ok(&["node", "rekey", "--file"])?;
    ensure!(told.contains("file (weak): the key-encryption key is a file beside the data"), "{told}");
    let first = std::fs::read(lab.node(1).data_dir().join("keys/kek"))?;
    lab.node(1).ok(&["node", "rekey", "--file"])?;
    ensure!(std::fs::read(lab.node(1).data_dir().join("keys/kek"))? != first);

    // A credential, as systemd hands it over.
    let directory = lab.node(1).path("credentials");
    std::fs::create_dir(&directory)?;
    std::fs::write(directory.join("secretd-kek"), [7; 32])?;
    lab.node_mut(1).set_environment("CREDENTIALS_DIRECTORY", &directory.display().to_string());
    restart(lab.node_mut(1))?;
    ensure!(lab.node(1).ok(&["node", "rekey", "--credential"])?.contains("credential (secure)"));
    restart(lab.node_mut(1))?;
    ensure!(lab.node(1).ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");
    lab.node_mut(1).stop_daemon()?;
    std::fs::write(directory.join("secretd-kek"), [8; 32])?;
    let other = lab.node(1).refused_start()?;
    ensure!(other.contains("systemd credential `secretd-kek`, and the one that is there is another"), "{other}");
    std::fs::remove_file(directory.join("secretd-kek"))?;
    let gone = lab.node(1).refused_start()?;
    ensure!(gone.contains("systemd credential `secretd-kek`, and it is not there"), "{gone}");
    Ok(())
}

#[test]
fn locked_node_that_leaves_by_force_begins_anew() -> Result<()> {
    let mut lab = Lab::start(1)?;
    lab.node(1).ok(&["cluster", "init", "--autolock"])?;
    until_kek(lab.node(1), "unlock-key true")?;
    restart(lab.node_mut(1))?;

    lab.node(1).ok(&["cluster", "leave", "--force"])?;

    lab.node(1).ok(&["cluster", "init"])?;
    until_kek(lab.node(1), "file false")?;
    restart(lab.node_mut(1))?;
    ensure!(lab.node(1).ok(&["node", "ls", "--format", "{{.Hostname}}"])? == "n1");
    Ok(())
}
