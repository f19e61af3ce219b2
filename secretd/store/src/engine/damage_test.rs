//! One bit flipped in a byte, a file that is cut, records exchanged: of a small store with some of everything.
//!
//! Whatever is done to the file, what is read is what was written or a typed refusal: never another plaintext, never a
//! panic. A sample by default, chosen by a seed that is printed; `WHOLE=1` does every byte and every length.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use redb::{ReadableTable, StorageBackend};
use secretd_tests::campaign::{Chance, whole};

use super::{Engine, Key, OpenError, Plaintext, RECORDS, Scan};
use crate::failure::StorageFailure;
use crate::fixture::{
    clock, create_secret, create_service, create_task, directory, grant, init, payload, sealer, secret_id,
    update_secret,
};
use crate::op::Op;
use crate::peers::NoPeers;
use crate::store::Store;

/// Bytes of a sample.
const SAMPLE: usize = 8 * 1024;

/// The store's file in memory: an open of a damaged one costs no disk.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.0.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.0.lock();
        let end = start.checked_add(out.len()).filter(|end| *end <= bytes.len());
        let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(&bytes[start..end]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.lock().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// How a store's files are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Killed,
}

/// A small store, as it lies on the disk, and what is in it.
struct Original {
    /// Has the count of commits.
    directory: Utf8PathBuf,
    file: Vec<u8>,
    records: Vec<(Key, Plaintext)>,
    _guard: tempfile::TempDir,
}

/// Metadata, payloads, a log, a vote, and what was left to be deleted.
async fn original(end: End) -> Original {
    let (guard, path) = directory();
    let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();
    store.propose(vec![init()]).await.unwrap();
    for n in 1..=6 {
        store.propose(vec![create_secret(n, &format!("s{n}"), 40 * u32::from(n))]).await.unwrap();
    }
    store.propose(vec![create_secret(7, "large", 9_000)]).await.unwrap();
    store.propose(vec![update_secret(2, 1, 500, 1)]).await.unwrap();
    store.propose(vec![Op::RemoveSecret { id: secret_id(3) }]).await.unwrap();
    let grants = vec![grant(1, "s1", None)];
    store.propose(vec![create_service(1, "app", grants.clone()), create_task(1, 1, grants)]).await.unwrap();
    let killed = path.with_extension("killed");
    copy(&path, &killed);
    store.shutdown().await;
    let directory = if end == End::Closed { path } else { killed };
    let file = fs::read(directory.join("records.redb")).unwrap();
    let records = read(&directory, file.clone()).expect("it is whole");
    assert!(records.len() > 20, "{}", records.len());
    Original { directory, file, records, _guard: guard }
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    fs::create_dir_all(to).unwrap();
    for file in ["records.redb", "acknowledged"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Why a store is refused.
#[derive(Debug)]
enum Refused {
    Open(#[allow(dead_code)] OpenError),
    Read(#[allow(dead_code)] StorageFailure),
}

/// Opens a store and reads every record.
fn read(directory: &Utf8Path, file: Vec<u8>) -> Result<Vec<(Key, Plaintext)>, Refused> {
    let engine = Engine::open_on(Memory(Arc::new(Mutex::new(file))), directory, sealer()).map_err(Refused::Open)?;
    let mut records = Vec::new();
    let all = (Key::from_bytes(&[]), Key::from_bytes(&[u8::MAX]));
    let scanned = engine.scan(&all.0, &all.1, |key, plaintext| {
        records.push((key.clone(), plaintext));
        Ok(Scan::Next)
    });
    scanned.map_err(Refused::Read)?;
    Ok(records)
}

/// What became of damaged stores.
#[derive(Debug, Default)]
struct Tally {
    whole: usize,
    refused: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn check(&mut self, original: &Original, directory: &Utf8Path, file: Vec<u8>, what: impl Fn() -> String) {
        match catch_unwind(AssertUnwindSafe(|| read(directory, file))) {
            Ok(Ok(records)) if records == original.records => self.whole += 1,
            Ok(Ok(_)) => self.wrong.push(format!("{}: other records", what())),
            Ok(Err(Refused::Open(_) | Refused::Read(_))) => self.refused += 1,
            Err(_) => self.wrong.push(format!("{}: panicked", what())),
        }
    }
}

/// Every place below `length`, or a sample of them.
fn places(length: usize, chance: &mut Chance) -> Vec<usize> {
    if whole("WHOLE").unwrap() || length <= SAMPLE {
        return (0..length).collect();
    }
    // The head of the file is small, and every byte of it counts.
    (0..512).chain((512..SAMPLE).map(|_| chance.index(length))).collect()
}

fn flip(bytes: &mut [u8], at: usize, chance: &mut Chance) -> u64 {
    let bit = chance.below(8);
    bytes[at] ^= 1 << bit;
    bit
}

/// Flips and cuts the store's file, then the count of commits.
fn damage(original: &Original, name: &str) {
    let mut chance = Chance::new().unwrap();
    let mut tally = Tally::default();
    let length = original.file.len();
    for at in places(length, &mut chance) {
        let mut file = original.file.clone();
        let bit = flip(&mut file, at, &mut chance);
        tally.check(original, &original.directory, file, || format!("bit {bit} of byte {at}"));
    }
    for at in places(length, &mut chance) {
        let file = original.file[..at].to_vec();
        tally.check(original, &original.directory, file, || format!("cut to {at}"));
    }
    let count = fs::read(original.directory.join("acknowledged")).unwrap();
    let work = original.directory.with_extension("work");
    fs::create_dir_all(&work).unwrap();
    for at in 0..count.len() {
        let mut flipped = count.clone();
        let bit = flip(&mut flipped, at, &mut chance);
        fs::write(work.join("acknowledged"), flipped).unwrap();
        tally.check(original, &work, original.file.clone(), || format!("bit {bit} of byte {at} of the count"));
        fs::write(work.join("acknowledged"), &count[..at]).unwrap();
        tally.check(original, &work, original.file.clone(), || format!("count cut to {at}"));
    }
    println!(
        "{name}: {length} bytes, SEED={}: {} refused, {} whole, {} wrong",
        chance.seed(),
        tally.refused,
        tally.whole,
        tally.wrong.len()
    );
    tally.wrong.truncate(20);
    assert!(tally.wrong.is_empty(), "SEED={}: {:#?}", chance.seed(), tally.wrong);
    assert!(tally.refused > SAMPLE / 4, "{tally:?}");
}

#[tokio::test]
async fn damaged_file_of_a_closed_store_is_refused_or_gives_exactly_what_was_written() {
    damage(&original(End::Closed).await, "closed");
}

#[tokio::test]
async fn damaged_file_of_a_killed_store_is_refused_or_gives_exactly_what_was_written() {
    damage(&original(End::Killed).await, "killed");
}

#[tokio::test]
async fn any_two_records_that_are_exchanged_are_both_refused() {
    let original = original(End::Closed).await;
    let memory = Memory(Arc::new(Mutex::new(original.file.clone())));
    let engine = Engine::open_on(memory, &original.directory, sealer()).unwrap();
    let keys: Vec<&Key> = original.records.iter().map(|(key, _)| key).collect();

    for (at, one) in keys.iter().enumerate() {
        for other in &keys[at + 1..] {
            exchange(&engine, one, other);
            for key in [one, other] {
                let got = engine.get(key);
                assert!(matches!(got, Err(StorageFailure::Damaged { .. })), "{one} and {other}: {key} opens");
            }
            exchange(&engine, one, other);
        }
    }
    assert!(engine.get(keys[0]).is_ok());
}

/// Puts each of two sealed records in the other's place.
fn exchange(engine: &Engine, one: &Key, other: &Key) {
    let database = engine.database.read();
    let write = database.as_ref().unwrap().begin_write().unwrap();
    {
        let mut table = write.open_table(RECORDS).unwrap();
        let sealed = |table: &redb::Table<'_, &[u8], &[u8]>, key: &Key| {
            table.get(key.as_bytes()).unwrap().unwrap().value().to_vec()
        };
        let (first, second) = (sealed(&table, one), sealed(&table, other));
        table.insert(one.as_bytes(), second.as_slice()).unwrap();
        table.insert(other.as_bytes(), first.as_slice()).unwrap();
    }
    write.commit().unwrap();
}

#[tokio::test]
async fn store_whose_parts_are_of_different_times_is_refused_when_it_lacks_something() {
    let (_guard, path) = directory();
    let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();
    store.propose(vec![init()]).await.unwrap();
    store.propose(vec![create_secret(1, "kept", 50)]).await.unwrap();
    let old = path.with_extension("old");
    copy(&path, &old);
    store.propose(vec![create_secret(2, "later", 50)]).await.unwrap();
    store.shutdown().await;
    let new = path.with_extension("new");
    copy(&path, &new);

    let open = || Store::open(&path, sealer(), clock(), Arc::new(NoPeers));
    fs::copy(old.join("records.redb"), path.join("records.redb")).unwrap();
    let refused = open().await.unwrap_err();
    assert!(matches!(refused, OpenError::LostWrites { .. }), "{refused:?}");

    // An old count says less than there is, and nothing is missing.
    copy(&new, &path);
    fs::copy(old.join("acknowledged"), path.join("acknowledged")).unwrap();
    let store = open().await.unwrap();
    assert_eq!(store.payload(secret_id(2), 1).await.unwrap().as_deref(), Some(&payload(50, 2)));
    store.shutdown().await;
}
