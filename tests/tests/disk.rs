//! Disks that are full or may not be written, and directories that are something else.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use secretd_tests::node::Node;
use secretd_tests::rootfs;

/// The largest secret.
static LARGEST: [u8; 512_000] = [7; 512_000];

/// A cluster whose data directory is a file system of its own, of 64 MiB.
fn small_cluster() -> Result<Node> {
    let mut node = Node::stopped()?;
    std::fs::create_dir(node.data_dir())?;
    ok(&node, "mount -t tmpfs -o size=64m,mode=0700 small \"$D\"")?;
    node.start_daemon()?;
    node.found()?;
    Ok(node)
}

fn ok(node: &Node, script: &str) -> Result<String> {
    let answer = node.in_sandbox(script)?;
    ensure!(answer.status.success(), "{script}: {answer:?}");
    Ok(answer.stdout)
}

#[test]
fn full_disk_refuses_what_needs_space_and_can_be_cleared() -> Result<()> {
    let mut node = small_cluster()?;
    node.ok_with(&["secret", "create", "kept", "-"], b"kept")?;
    node.ok_with(&["secret", "create", "large", "-"], &LARGEST)?;
    let archive = node.path("busybox.tar");
    rootfs::write(&archive, &rootfs::busybox(&[])?)?;
    let archive = archive.to_string_lossy().into_owned();
    // As much as there is at the time: what the store gives up meanwhile is taken too.
    let fill = || -> Result<()> {
        let full = node.in_sandbox("cat /dev/zero >> \"$D/fill\"")?;
        ensure!(full.stderr.contains("No space left"), "{full:?}");
        Ok(())
    };
    fill()?;

    let create = node.refused(1, &["secret", "create", "more", "-"], &LARGEST)?;
    let update = node.refused(1, &["secret", "update", "large", "-"], &LARGEST)?;
    fill()?;
    let import = node.refused(1, &["image", "import", "--tag", "busybox:1", &archive], b"")?;
    for line in [create, update] {
        ensure!(line.contains("is full") && line.contains("free some space"), "{line}");
    }
    ensure!(import.contains("no space left") && import.contains("sctl image rm"), "{import}");
    ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}} {{.Version}}"])? == "kept 1\nlarge 1");
    let left = ok(&node, "find \"$D/images/tmp\" \"$D/images/layers\" \"$D/images/configs\" -mindepth 1")?;
    ensure!(left.is_empty(), "{left}");

    // Full, it starts again, and what takes no space is done.
    node.kill_daemon()?;
    node.start_daemon()?;
    node.ok(&["secret", "rm", "large"])?;
    ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");

    ok(&node, "rm \"$D/fill\"")?;
    node.ok_with(&["secret", "create", "more", "-"], &LARGEST)?;
    node.ok(&["image", "import", "--tag", "busybox:1", &archive])?;
    Ok(())
}

#[test]
fn many_at_once_on_a_disk_that_gets_full_are_stored_or_refused_and_nothing_fails() -> Result<()> {
    let node = small_cluster()?;
    // Room for some of them, each half a megabyte beside the reserve.
    ok(&node, "head -c 36m /dev/zero > \"$D/fill\"")?;
    let creates: Vec<_> = (0..48)
        .map(|number| {
            let name = format!("s{number}");
            let mut create = node.sctl_command(&["secret", "create", &name, "-"]);
            let mut create = create.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let mut stdin = create.stdin.take().context("stdin")?;
            stdin.write_all(&LARGEST)?; // more than a pipe holds: it has been read when this returns, all but the rest
            Ok((name, create))
        })
        .collect::<Result<_>>()?;
    let mut stored = Vec::new();
    for (name, mut create) in creates {
        match create.wait()?.code() {
            Some(0) => stored.push(name),
            code => ensure!(code == Some(1), "{name}: {code:?}\n{}", node.log()),
        }
    }

    ensure!(!stored.is_empty() && stored.len() < 48, "{} stored", stored.len());
    let mut there: Vec<String> =
        node.ok(&["secret", "ls", "--format", "{{.Name}}"])?.lines().map(str::to_owned).collect();
    stored.sort();
    there.sort();
    ensure!(there == stored, "{there:?} {stored:?}");
    for name in &stored {
        node.ok(&["secret", "rm", name])?;
    }
    Ok(())
}

#[test]
fn data_directory_that_cannot_be_written_is_refused() -> Result<()> {
    let node = Node::stopped()?;
    std::fs::create_dir(node.data_dir())?;
    ok(&node, "mount -t tmpfs -o ro,size=1m readonly \"$D\"")?;

    let line = node.refused_start()?;

    ensure!(line.to_lowercase().contains("read-only file system") && line.contains("mount the file system"), "{line}");
    ensure!(line.contains(&*node.data_dir().to_string_lossy()), "{line}");
    ensure!(!node.run_dir().exists());
    Ok(())
}

#[test]
fn data_directory_without_space_is_refused_at_the_start_and_left_as_it_was() -> Result<()> {
    let node = Node::stopped()?;
    std::fs::create_dir(node.data_dir())?;
    ok(&node, "mount -t tmpfs -o size=64k full \"$D\" && ! cat /dev/zero > \"$D/fill\"")?;

    let line = node.refused_start()?;

    ensure!(line.to_lowercase().contains("no space left") || line.contains("full"), "{line}");
    ensure!(ok(&node, "ls -A \"$D\"")? == "fill\n", "{}", ok(&node, "find \"$D\"")?);
    Ok(())
}

#[test]
fn directory_that_is_a_file_is_refused_and_kept() -> Result<()> {
    let node = Node::stopped()?;
    std::fs::write(node.data_dir(), "mine")?;

    let line = node.refused_start()?;

    ensure!(line.contains("it is no directory"), "{line}");
    ensure!(std::fs::read(node.data_dir())? == b"mine");
    Ok(())
}

#[test]
fn control_socket_that_is_a_file_is_refused_and_a_stale_one_is_replaced() -> Result<()> {
    let mut node = Node::stopped()?;
    std::fs::create_dir(node.run_dir())?;
    let socket = node.run_dir().join("control.sock");
    std::fs::write(&socket, "mine")?;

    let line = node.refused_start()?;
    ensure!(line.contains("exists and is no socket"), "{line}");
    ensure!(std::fs::read(&socket)? == b"mine");

    std::fs::remove_file(&socket)?;
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    node.start_daemon()?;
    node.ok(&["version"])?;
    Ok(())
}

#[test]
fn daemon_without_root_says_so() -> Result<()> {
    let node = Node::stopped()?;
    let program = secretd_tests::node::binary("secretd");
    let copy = node.path("secretd");
    std::fs::copy(program, &copy)?;
    std::os::unix::fs::chown(node.path("."), Some(65534), Some(65534))?;

    let answer = node.in_sandbox(
        "setpriv --reuid=65534 --regid=65534 --clear-groups \"$T/secretd\" --data-dir \"$D\" --run-dir \"$R\"",
    )?;

    ensure!(answer.code() == 1 && answer.stderr.contains("run secretd as root"), "{answer:?}");
    ensure!(!node.data_dir().exists() && !node.run_dir().exists());
    Ok(())
}

#[test]
fn damaged_data_is_refused_with_the_file_named_and_left_as_it_is() -> Result<()> {
    let mut node = Node::start()?;
    node.found()?;
    node.ok_with(&["secret", "create", "kept", "-"], b"kept")?;
    node.stop_daemon()?;
    let (records, dek) = (node.data_dir().join("store/records.redb"), node.data_dir().join("keys/dek"));
    let (whole, key) = (std::fs::read(&records)?, std::fs::read(&dek)?);

    let torn = whole.get(..whole.len() / 2).context("torn")?.to_vec();
    let no_header = [vec![0; 4096], whole.get(4096..).context("header")?.to_vec()].concat();
    let mut flipped = key.clone();
    *flipped.last_mut().context("key")? ^= 1;
    for (file, bytes) in [(&records, torn), (&records, no_header), (&dek, flipped)] {
        std::fs::write(file, &bytes)?;
        let line = node.refused_start()?;
        let place = if file == &dek { "keys/dek" } else { "store" };
        ensure!(line.contains(place) && line.contains("is damaged") && line.contains("restore"), "{line}");
        ensure!(node.processes("secret-fs").is_empty(), "a start that fails has left a process");
        ensure!(std::fs::read(file)? == bytes, "the start has changed {}", file.display());
        std::fs::write(file, if file == &dek { &key } else { &whole })?;
    }

    node.start_daemon()?;
    ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept");
    Ok(())
}
