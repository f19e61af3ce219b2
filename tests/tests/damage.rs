//! One bit flipped in a byte, and a file that is cut, of the files of a real node beside its store: its keys, its
//! membership, a backup. The store's own files are damaged in `secretd-store`, thousands of times faster than a daemon
//! could be started.
//!
//! A sample by default, chosen by a seed that is printed; `WHOLE=1` does every byte and every length.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use secretd_sealing::backup::{BackupError, BackupOpen, BackupSecret};
use secretd_sealing::node_keys::{NodeKeys, Opened};
use secretd_tests::campaign::{Chance, whole};
use secretd_tests::node::Node;

/// Bytes of a sample.
const SAMPLE: usize = 16 * 1024;

/// What became of a damaged file.
enum Outcome {
    /// A typed refusal.
    Refused,
    /// Exactly what was written.
    Whole,
    /// Something else.
    Wrong,
}

/// Damages `original` at each place of a sample, and has `open` say what comes of it: how often it was refused.
fn damage(name: &str, original: &[u8], mut open: impl FnMut(&[u8]) -> Result<Outcome>) -> Result<usize> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    let length = original.len();
    let places: Vec<usize> = match whole("WHOLE")? || length <= SAMPLE {
        true => (0..length).collect(),
        false => (0..512).chain((512..SAMPLE).map(|_| chance.index(length))).collect(),
    };
    let (mut refused, mut whole, mut wrong) = (0, 0, Vec::new());
    for at in places {
        let bit = chance.below(8);
        let mut flipped = original.to_vec();
        if let Some(byte) = flipped.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let cut = original.get(..at).unwrap_or_default();
        for (damaged, what) in [(flipped.as_slice(), format!("bit {bit} of {at}")), (cut, format!("cut to {at}"))] {
            match catch_unwind(AssertUnwindSafe(|| open(damaged))) {
                Ok(Ok(Outcome::Refused)) => refused += 1,
                Ok(Ok(Outcome::Whole)) => whole += 1,
                Ok(Ok(Outcome::Wrong)) => wrong.push(what),
                Ok(Err(error)) => return Err(error.context(what)),
                Err(_) => wrong.push(format!("{what}: panicked")),
            }
        }
    }
    #[allow(clippy::print_stdout)] // the figures of a campaign, for those who ask for them
    {
        println!("{name}: {length} bytes, SEED={seed}: {refused} refused, {whole} whole, {} wrong", wrong.len());
    }
    wrong.truncate(20);
    ensure!(wrong.is_empty(), "{name}, SEED={seed}: {wrong:#?}");
    Ok(refused)
}

/// A node with some state that has ended.
fn ended() -> Result<Node> {
    let mut node = Node::start()?;
    node.found()?;
    node.ok_with(&["secret", "create", "kept", "-"], b"kept")?;
    node.ok_with(&["secret", "create", "large", "-"], &[7; 30_000])?;
    node.stop_daemon()?;
    Ok(node)
}

/// Opens keys that are as they were, or not.
fn open_keys(keys: &Path, sealed: &[u8]) -> Outcome {
    match NodeKeys::open_or_create(keys, None, 0) {
        Err(_) => Outcome::Refused,
        // A key of another kind is asked for: nothing opens without it.
        Ok(Opened::Locked(_)) => Outcome::Refused,
        Ok(Opened::Open(keys)) => match keys.sealer().open(b"place", sealed) {
            Ok(plain) if plain.as_slice() == b"record" => Outcome::Whole,
            Ok(_) | Err(_) => Outcome::Wrong,
        },
    }
}

#[test]
fn damaged_keys_open_nothing() -> Result<()> {
    let node = ended()?;
    let keys = node.data_dir().join("keys");
    let Opened::Open(opened) = NodeKeys::open_or_create(&keys, None, 0)? else { anyhow::bail!("locked") };
    let sealed = opened.sealer().seal(b"place", b"record")?;
    for name in ["kek", "dek"] {
        let path = keys.join(name);
        let original = fs::read(&path)?;
        let refused = damage(name, &original, |damaged| {
            fs::write(&path, damaged)?;
            Ok(open_keys(&keys, &sealed))
        })?;
        ensure!(refused == 2 * original.len(), "{name}: {refused} of {} were refused", 2 * original.len());
        fs::write(&path, &original)?;
    }
    ensure!(matches!(open_keys(&keys, &sealed), Outcome::Whole));
    Ok(())
}

#[test]
fn keys_of_another_time_open_nothing() -> Result<()> {
    let mut node = Node::start()?;
    node.found()?;
    let keys = node.data_dir().join("keys");
    let old = [fs::read(keys.join("kek"))?, fs::read(keys.join("dek"))?];
    node.ok(&["node", "rekey", "--file"])?;
    node.stop_daemon()?;
    let new = [fs::read(keys.join("kek"))?, fs::read(keys.join("dek"))?];
    for (number, name) in ["kek", "dek"].into_iter().enumerate() {
        fs::write(keys.join(name), old.get(number).context("old")?)?;
        let line = node.refused_start()?;
        ensure!(line.contains("is damaged") && line.contains("restore"), "{name}: {line}");
        fs::write(keys.join(name), new.get(number).context("new")?)?;
    }
    node.start_daemon()
}

#[test]
fn damaged_backup_is_refused() -> Result<()> {
    let node = Node::start()?;
    node.found()?;
    node.ok_with(&["secret", "create", "kept", "-"], b"kept")?;
    let file = node.path("backup");
    let key = node.ok(&["cluster", "backup", "-q", &file.to_string_lossy()])?;
    let original = fs::read(file)?;
    let content = open_backup(&key, &original)?.context("it does not open")?;
    let refused = damage("backup", &original, |damaged| {
        Ok(match open_backup(&key, damaged)? {
            None => Outcome::Refused,
            Some(read) if read == content => Outcome::Whole,
            Some(_) => Outcome::Wrong,
        })
    })?;
    ensure!(refused >= SAMPLE, "{refused} were refused");
    Ok(())
}

/// What is in a backup; `None` when it is refused.
fn open_backup(key: &str, file: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut open = BackupOpen::new(BackupSecret::Key(key.parse()?));
    let mut content = Vec::new();
    let mut read = || -> Result<(), BackupError> {
        for piece in file.chunks(64 * 1024) {
            content.extend_from_slice(&open.read(piece)?);
        }
        Ok(())
    };
    if read().is_err() {
        return Ok(None);
    }
    let Ok(last) = open.finish() else { return Ok(None) };
    content.extend_from_slice(&last);
    Ok(Some(content))
}

#[test]
fn daemon_refuses_a_damaged_file_with_one_line_that_names_it() -> Result<()> {
    let mut node = ended()?;
    let mut chance = Chance::new()?;
    for (name, place) in [
        ("store/records.redb", "store"),
        ("store/acknowledged", "store"),
        ("keys/kek", "keys/"),
        ("keys/dek", "keys/dek"),
        ("membership", "membership"),
    ] {
        let path = node.data_dir().join(name);
        let original = fs::read(&path)?;
        let half = original.get(..original.len() / 2).unwrap_or_default().to_vec();
        // The first bytes say what it is, so that damage there is never harmless.
        let mut flipped = original.clone();
        for byte in flipped.iter_mut().take(if name == "store/acknowledged" { original.len() } else { 8 }) {
            *byte ^= 1 << chance.below(8);
        }
        for (damaged, is_whole) in [(flipped, false), (half, name == "store/acknowledged")] {
            fs::write(&path, &damaged)?;
            if is_whole {
                continue; // one of two slots is enough
            }
            let line = node.refused_start().with_context(|| format!("{name}, SEED={}", chance.seed()))?;
            ensure!(line.contains(place) && line.contains("restore"), "{name}: {line}");
        }
        fs::write(&path, &original)?;
    }
    node.start_daemon()?;
    ensure!(node.ok(&["secret", "ls", "--format", "{{.Name}}"])? == "kept\nlarge");
    Ok(())
}
