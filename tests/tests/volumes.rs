//! Named volumes by hand: made, listed, kept while they are used, removed.

use anyhow::{Result, ensure};
use secretd_tests::lab::{until, until_shown};
use secretd_tests::node::Node;

#[test]
fn volume_is_kept_while_a_container_uses_it_and_then_removed() -> Result<()> {
    let node = Node::cluster()?;
    ensure!(node.ok(&["volume", "create", "--label", "team=a", "data"])? == "data");
    let mount = ["--mount", "source=data,target=/data", "--mount", "source=new,target=/new,volume-label=team=b"];
    node.create_service(
        &[&mount[..], &["--name", "app", "--stop-signal", "KILL", "busybox:1", "sleep", "1000"]].concat(),
    )?;
    node.ok(&["exec", "app.1", "sh", "-c", "echo kept > /data/file"])?;

    let list = |filter: &str| node.ok(&["volume", "ls", "--filter", filter, "--format", "{{.Name}} {{.Labels}}"]);
    ensure!(list("name=")? == "data team=a\nnew team=b", "{}", list("name=")?);
    ensure!(list("label=team=b")? == "new team=b" && list("dangling=true")?.is_empty());
    let used = node.refused(4, &["volume", "rm", "data"], b"")?;
    ensure!(used.contains("is in use by task"), "{used}");
    let path = node.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", "data"])?;
    ensure!(node.in_sandbox(&format!("cat {path}/file"))?.stdout == "kept\n");

    node.ok(&["service", "scale", "app=0"])?;
    until("nothing uses them", || Ok((list("dangling=true")?.lines().count() >= 2).then_some(())))?;
    ensure!(node.ok(&["volume", "rm", "data", "new"])? == "data\nnew");

    ensure!(node.ok(&["volume", "ls", "-q"])?.is_empty());
    ensure!(std::fs::read_dir(node.data_dir().join("volumes"))?.next().is_none());
    Ok(())
}

#[test]
fn volumes_without_a_name_go_with_their_task_and_wrong_ones_are_refused() -> Result<()> {
    let node = Node::cluster()?;
    let flags = ["--mount", "target=/scratch", "--name", "app", "--stop-signal", "KILL"];
    node.create_service(&[&flags[..], &["busybox:1", "sleep", "1000"]].concat())?;
    ensure!(node.ok(&["volume", "ls", "-q"])?.lines().count() == 1);

    node.ok(&["service", "scale", "app=0"])?;
    until_shown(&node, &["volume", "ls", "-q"], str::is_empty)?;

    node.refused(1, &["volume", "create", "../etc"], b"")?;
    node.refused(1, &["volume", "ls", "--filter", "colour=red"], b"")?;
    for name in ["none", "../images", "."] {
        node.refused(5, &["volume", "rm", name], b"")?;
    }
    ensure!(node.data_dir().join("images").is_dir());
    Ok(())
}
