//! Backup and restore: one sealed file of a busy cluster, from which another node makes the cluster again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use secretd_tests::lab::{Lab, until, until_shown};
use secretd_tests::peer::rows_hold;

/// What is in a directory.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn cluster_that_is_lost_comes_back_from_one_file() -> Result<()> {
    let mut lab = Lab::cluster(3, 1)?;
    let payload: String = (0..500_000_u32).filter_map(|at| char::from_digit(at % 31, 36)).collect();
    lab.node(1).ok_with(&["secret", "create", "psql-pw", "-"], b"hunter2-backed-up")?;
    lab.node(1).ok_with(&["secret", "create", "large", "-"], payload.as_bytes())?;
    let create = ["--replicas", "2", "--secret", "psql-pw", "--secret", "large", "--stop-signal", "KILL"];
    let create = [&["--name", "app"], &create[..], &["busybox:1", "sleep", "100000"]].concat();
    lab.node(1).create_service(&create)?;

    // From a manager that does not lead, while the cluster goes on.
    let follower = if lab.leader(1)? == 2 { 3 } else { 2 };
    let file = lab.node(follower).path("cluster.backup");
    let name = file.to_str().context("a path")?;
    let printed = lab.node(follower).ok(&["cluster", "backup", name])?;
    let key = printed.split_whitespace().find(|word| word.starts_with("SCTLBACKUP-1-")).context("no key")?.to_owned();
    ensure!(printed.contains("2 secrets, 1 service,"), "{printed}");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let bytes = fs::read(&file)?;
    for known in [&b"hunter2-backed-up"[..], b"psql-pw", b"secretd-ca", b"busybox", &payload.as_bytes()[..64]] {
        ensure!(!bytes.windows(known.len()).any(|window| window == known), "{:?} is in it", known.escape_ascii());
    }
    let again = lab.node(follower).refused(4, &["cluster", "backup", name], b"")?;
    ensure!(again.contains("already exists"), "{again}");
    lab.node(1).ok_with(&["secret", "create", "later", "-"], b"x")?;

    // Every manager is lost. A new node at the address of one makes the cluster again.
    for number in 1..=3 {
        lab.node_mut(number).kill_daemon()?;
    }
    let lost = lab.node(1).data_dir();
    for part in ["store", "membership", "keys"] {
        let path = lost.join(part);
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    lab.node_mut(1).start_daemon()?;
    let node = lab.node(1);
    let restored = node.ok_with(&["cluster", "restore", name], key.as_bytes())?;
    ensure!(restored.contains("2 secrets, 1 service.") && restored.contains("is now its only manager"), "{restored}");
    ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "large\npsql-pw");

    // The worker comes back by itself; what ran on the lost managers runs elsewhere.
    let nodes = ["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"];
    until_shown(node, &nodes, |nodes| nodes.contains("n1 Ready Leader") && nodes.contains("n4 Ready"))?;
    let tasks = ["service", "ps", "app", "-f", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}"];
    until_shown(node, &tasks, |tasks| {
        tasks.lines().filter(|task| task.contains(" Running ")).count() == 2
            && tasks.lines().all(|task| task.starts_with("n1 ") || task.starts_with("n4 "))
    })?;
    let task = node.ok(&["service", "ps", "app", "-f", "desired-state=running", "-q"])?;
    let task = task.lines().next().context("no task")?;
    // Its node may be on its way back to the manager still.
    until_shown(node, &["exec", task, "cat", "/run/secrets/psql-pw"], |value| value == "hunter2-backed-up")?;
    let large = node.sctl(&["exec", task, "cat", "/run/secrets/large"], b"")?;
    ensure!(large.stdout == payload, "the large secret is another");
    ensure!(!node.log().contains(&key), "the key is in the log");

    // The restored cluster is a whole one: it takes in managers, and is there after a restart.
    lab.node_mut(2).start_daemon()?;
    lab.node(2).ok(&["cluster", "leave", "--force"])?;
    lab.join(2, "manager")?;
    lab.node_mut(1).stop_daemon()?;
    lab.node_mut(1).start_daemon()?;
    until_shown(lab.node(2), &["secret", "ls", "--format", "{{.Name}}"], |names| names == "large\npsql-pw")?;
    Ok(())
}

#[test]
fn restore_refuses_what_is_not_the_whole_backup_of_a_cluster_and_leaves_nothing() -> Result<()> {
    let lab = Lab::start(2)?;
    let (node, empty) = (lab.node(1), lab.node(2));
    let path = |name: &str| node.path(name).to_string_lossy().into_owned();
    let early = node.refused(1, &["cluster", "backup", &path("early")], b"")?;
    ensure!(early.contains("this node is not a cluster manager"), "{early}");
    ensure!(!names(&node.path("."))?.iter().any(|name| name.starts_with("early")));
    node.ok(&["cluster", "init"])?;
    node.ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let short = node.refused(1, &["cluster", "backup", "--passphrase", &path("short")], b"hunter2")?;
    ensure!(short.contains("a passphrase has at least 8 bytes"), "{short}");
    let nowhere = node.refused(1, &["cluster", "backup", "/nowhere/backup"], b"")?;
    ensure!(nowhere.contains("cannot write /nowhere/backup: No such file or directory"), "{nowhere}");
    let file = path("backup");
    node.ok_with(&["cluster", "backup", "--passphrase", &file], b"correct horse\n")?;
    let key = node.ok(&["cluster", "backup", "-q", &path("keyed")])?;
    ensure!(key.starts_with("SCTLBACKUP-1-") && !key.contains(' '), "{key}");

    let refuse = |file: &str, key: &[u8], why: &str| -> Result<()> {
        let line = empty.refused(1, &["cluster", "restore", file], key)?;
        ensure!(line.contains(why), "{file}: {line}");
        ensure!(!empty.data_dir().join("store").exists() && !empty.data_dir().join("restoring").exists(), "{file}");
        let info = empty.ok(&["info", "--format", "{{.Cluster.LocalNodeState}}"])?;
        ensure!(info == "inactive", "{file}: {info}");
        Ok(())
    };
    refuse(&file, b"wrong horse", "the passphrase does not open this backup")?;
    refuse(&path("keyed"), b"correct horse", "the key of a backup begins with `SCTLBACKUP-1-`")?;
    let other = if key.ends_with('0') { '1' } else { '0' };
    let mistyped = format!("{}{other}", &key[..key.len() - 1]);
    refuse(&path("keyed"), mistyped.as_bytes(), "the backup's key is mistyped")?;
    refuse(&file, b"", "standard input is empty")?;
    refuse("/nowhere/backup", b"correct horse", "cannot read /nowhere/backup: No such file or directory")?;
    refuse("-", b"correct horse", "the backup cannot be read from standard input")?;
    let bytes = fs::read(&file)?;
    for (name, content, why) in [
        ("foreign", b"\x7fELF and so on".to_vec(), "this is no backup of a cluster"),
        ("empty", Vec::new(), "this is no backup of a cluster"),
        ("header", bytes[..60].to_vec(), "the backup is not whole"),
        ("cut", bytes[..bytes.len() - 1].to_vec(), "the backup is not whole"),
        ("longer", [&bytes[..], b"\0"].concat(), "something follows its end"),
        ("damaged", bytes.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 5000)).collect(), "is damaged"),
    ] {
        fs::write(node.path(name), content)?;
        refuse(&path(name), b"correct horse", why)?;
    }
    let member = node.refused(4, &["cluster", "restore", &file], b"correct horse")?;
    ensure!(member.contains("this node is already part of a cluster"), "{member}");

    // After all of that it can still be had back.
    let restored = empty.ok_with(&["cluster", "restore", &file], b"correct horse")?;
    ensure!(restored.contains("1 secret, 0 services."), "{restored}");
    ensure!(empty.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");
    rows_hold("restore_refuses_what_is_not_the_whole_backup_of_a_cluster_and_leaves_nothing")
}

#[test]
fn backup_that_fails_leaves_nothing_and_two_at_once_do_not_mix() -> Result<()> {
    let lab = Lab::start(2)?;
    let node = lab.node(1);
    node.ok(&["cluster", "init"])?;
    node.ok_with(&["secret", "create", "kept", "-"], b"x")?;
    let directory = node.path("backups");
    fs::create_dir(&directory)?;
    let path = directory.join("backup");
    let file = path.to_str().context("a path")?;

    let wrong = node.refused(1, &["cluster", "backup", "--format", "{{.Nope}}", file], b"")?;
    ensure!(wrong.contains("there is no field .Nope"), "{wrong}");
    let nowhere = node.refused(2, &["cluster", "backup", "-"], b"")?;
    ensure!(nowhere.contains("a backup is not written to standard output"), "{nowhere}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let lost = node.sctl_command(&["cluster", "backup", file]).stdin(Stdio::null()).stdout(full).output()?;
    let said = String::from_utf8_lossy(&lost.stderr);
    ensure!(lost.status.code() == Some(1) && said.contains("the backup's key is lost"), "{lost:?}");
    ensure!(names(&directory)?.is_empty(), "{:?}", names(&directory)?);

    // What answers never is waited for until a signal comes.
    let silent = node.path("silent.sock");
    let _listens = UnixListener::bind(&silent)?;
    let host = format!("unix://{}", silent.display());
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = node.sctl_command(&["--host", &host, "cluster", "backup", file]);
        let waiting = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        until("the backup has begun", || Ok((!names(&directory)?.is_empty()).then_some(())))?;
        kill_process(Pid::from_child(&waiting), signal)?;
        let ended = waiting.wait_with_output()?;
        ensure!(ended.status.code() == Some(code), "{ended:?}");
        ensure!(String::from_utf8_lossy(&ended.stderr).contains("is not written"), "{ended:?}");
        ensure!(names(&directory)?.is_empty(), "{:?}", names(&directory)?);
    }

    symlink(node.path("elsewhere"), &path)?;
    let link = node.refused(4, &["cluster", "backup", file], b"")?;
    ensure!(link.contains("already exists: remove it"), "{link}");
    fs::remove_file(&path)?;

    let begin = || {
        let mut command = node.sctl_command(&["cluster", "backup", "-q", file]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let both = [begin()?, begin()?];
    let mut keys = Vec::new();
    for one in both {
        let ended = one.wait_with_output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        if ended.status.success() {
            keys.push(ended.stdout);
        } else {
            ensure!(ended.status.code() == Some(4) && said.contains("already exists: "), "{said}");
        }
    }
    ensure!(keys.len() == 1 && names(&directory)? == ["backup"], "{keys:?} {:?}", names(&directory)?);
    lab.node(2).ok_with(&["cluster", "restore", file], &keys.concat())?;
    ensure!(lab.node(2).ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");
    Ok(())
}
