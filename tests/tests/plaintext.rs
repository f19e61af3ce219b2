//! Where plaintext and names may be, tested by looking everywhere else: the disk, and the memory of every process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::until_shown;
use secretd_tests::node::Node;

/// Random enough to be nowhere by chance, and never in one piece in this binary's own memory of constants.
fn canary(name: &str) -> String {
    format!("{name}-{:x}-{:x}", std::process::id(), name.as_ptr().addr())
}

/// The forms in which bytes could lie around.
fn forms(canary: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let hex = canary.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let utf16 = canary.encode_utf16().flat_map(u16::to_le_bytes).collect();
    BTreeMap::from([("plain", canary.as_bytes().to_vec()), ("hex", hex.into_bytes()), ("UTF-16", utf16)])
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn files_below(directory: &Path, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), found)?;
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Whether the readable memory of a process has the bytes (proc_pid_mem(5)). Device and secret memory is not readable.
fn memory_has(pid: i32, needle: &[u8]) -> Result<bool> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split(' ');
        let (range, mode) = (words.next().context("range")?, words.next().context("mode")?);
        let (start, end) = range.split_once('-').context("range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        if !mode.starts_with('r') {
            continue;
        }
        let (step, overlap) = (1_u64 << 20, needle.len() as u64);
        let mut at = start;
        while at < end {
            let mut chunk = vec![0; usize::try_from((step + overlap).min(end - at))?];
            if let Ok(length) = memory.read_at(&mut chunk, at)
                && find(chunk.get(..length).unwrap_or_default(), needle)
            {
                return Ok(true);
            }
            at += step;
        }
    }
    Ok(false)
}

#[test]
fn disk_has_neither_values_nor_names() -> Result<()> {
    let mut node = Node::cluster()?;
    let (value, name, service, label) = (canary("value"), canary("name"), canary("svc"), canary("label"));
    node.ok_with(&["secret", "create", "--label", &format!("k={label}"), &name, "-"], value.as_bytes())?;
    node.create_service(&["--name", &service, "--secret", &name, "busybox:1", "sleep", "1000"])?;
    let second = canary("second");
    node.ok_with(&["secret", "update", &name, "-"], second.as_bytes())?;
    let task = format!("{service}.1");
    until_shown(&node, &["exec", &task, "cat", &format!("/run/secrets/{name}")], |read| read == second)?;
    node.kill_daemon()?;

    let mut files = Vec::new();
    files_below(&node.data_dir(), &mut files)?;
    ensure!(files.len() > 5, "the data directory is almost empty: {files:?}");
    for file in files {
        let bytes = std::fs::read(&file)?;
        for canary in [&value, &second, &name, &service, &label] {
            for (form, needle) in forms(canary) {
                ensure!(!find(&bytes, &needle), "{} has {canary} as {form}", file.display());
            }
        }
    }
    Ok(())
}

#[test]
fn memory_of_no_process_of_ours_has_plaintext_at_rest() -> Result<()> {
    let node = Node::cluster()?;
    let value = canary("memory");
    node.ok_with(&["secret", "create", "s", "-"], value.as_bytes())?;
    // The container reads for itself: what `exec` or a log shows passes through secretd, as its user has asked for.
    let script = "for i in $(seq 20); do cat /run/secrets/s >/dev/null; done; echo done; sleep 1000";
    node.create_service(&["--name", "app", "--secret", "s", "busybox:1", "sh", "-c", script])?;
    let mut follower = node.sctl_command(&["service", "logs", "--raw", "-f", "app"]).stdout(Stdio::piped()).spawn()?;
    let line = BufReader::new(follower.stdout.take().context("stdout")?).lines().next();
    follower.kill()?;
    follower.wait()?;
    ensure!(line.context("no log")?? == "done");

    for name in ["secretd", "secret-fs"] {
        let processes = node.processes(name);
        ensure!(!processes.is_empty(), "no process {name}");
        for pid in processes {
            for (form, needle) in forms(&value) {
                ensure!(!memory_has(pid, &needle)?, "{name} ({pid}) has the plaintext as {form}");
            }
        }
    }
    // The scan can fail: a process that does have the bytes is found.
    ensure!(memory_has(i32::try_from(std::process::id())?, value.as_bytes())?);
    Ok(())
}

#[test]
fn processes_with_keys_leave_no_core_and_are_not_dumpable() -> Result<()> {
    let node = Node::cluster()?;
    node.ok_with(&["secret", "create", "s", "-"], b"x")?;
    node.create_service(&["--name", "app", "--secret", "s", "busybox:1", "sleep", "1000"])?;

    for name in ["secretd", "secret-fs"] {
        for pid in node.processes(name) {
            let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("limit")?;
            ensure!(core.split_whitespace().nth(4) == Some("0"), "{name}: {core}");
        }
    }
    for pid in node.processes("secret-fs") {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        for (field, wanted) in
            [("Seccomp:", "2"), ("NoNewPrivs:", "1"), ("CapEff:", "0000000000000000"), ("CapBnd:", "0000000000000000")]
        {
            let line = status.lines().find(|line| line.starts_with(field)).context(field)?;
            ensure!(line.split_whitespace().nth(1) == Some(wanted), "{line}");
        }
        let uid = status.lines().find(|line| line.starts_with("Uid:")).context("Uid")?;
        ensure!(!uid.split_whitespace().any(|word| word == "0"), "{uid}");
    }
    Ok(())
}
