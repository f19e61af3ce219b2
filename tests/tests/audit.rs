//! The audit log: a record of every read, whatever happens to its file.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretd_tests::node::Node;

/// Opens that make more records than one file takes.
const OPENS: usize = 100;

/// Files of the log, the current one first.
fn records(node: &Node) -> Result<Vec<String>> {
    let directory = node.data_dir().join("audit");
    let mut names: Vec<_> = std::fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.sort();
    names.iter().map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string())).collect()
}

#[test]
fn rotated_log_has_a_record_of_every_read() -> Result<()> {
    let config = tempfile::NamedTempFile::new()?;
    std::fs::write(config.path(), "[audit]\nmax-size = 4096\nmax-files = 50\n")?;
    let node = Node::cluster_with(&["--config", &config.path().to_string_lossy()])?;
    node.ok_with(&["secret", "create", "pw", "-"], b"secret\n")?;
    node.create_service(&["--name", "app", "--secret", "pw", "busybox:1", "sleep", "1000"])?;
    let script = format!("for i in $(seq {OPENS}); do read -r x < /run/secrets/pw; done");

    // The size is looked at now and then: reads go on until there are three files, and then some more.
    let (mut rounds, deadline) = (0, Instant::now() + Duration::from_secs(60));
    while records(&node)?.len() < 3 {
        ensure!(Instant::now() < deadline, "the log is not rotated");
        node.ok(&["exec", "app.1", "sh", "-c", &script])?;
        rounds += 1;
    }
    node.ok(&["exec", "app.1", "sh", "-c", &script])?;

    let files = records(&node)?;
    let lines: Vec<&str> = files.iter().flat_map(|text| text.lines()).collect();
    let (attached, lines): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.contains("\"attached\""));
    ensure!(attached.len() == 1, "{attached:?}");
    ensure!(lines.iter().all(|line| line.starts_with("{\"at\":") && line.ends_with("\"outcome\":\"allowed\"}")));
    ensure!(lines.len() == OPENS * (rounds + 1), "{} records of {} reads", lines.len(), OPENS * (rounds + 1));
    Ok(())
}
