//! The engine on disks that fail, lie and forget.

use std::fs;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use redb::backends::FileBackend;
use redb::{BackendError, ReadableTable, StorageBackend};
use secretd_sealing::at_rest::Sealer;
use secretd_sealing::secret::Dek;

use super::{Engine, Key, OpenError, Scan, Writes};
use crate::failure::StorageFailure;
use crate::fixture::{clock, create_secret, directory, init, payload, sealer, secret_id};
use crate::ground::Ground;
use crate::peers::NoPeers;
use crate::proposer::{ProposeError, ReadError};
use crate::store::Store;

/// A disk that can be told to fail.
#[derive(Debug)]
struct FaultyDisk {
    file: FileBackend,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    sync: AtomicBool,
    full: AtomicBool,
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        if self.faults.sync.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        if self.faults.full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

async fn open_on_faulty_disk(path: &Utf8Path) -> (Store, Arc<Faults>) {
    fs::create_dir_all(path).unwrap();
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path.join("records.redb"));
    let faults = Arc::new(Faults::default());
    let disk = FaultyDisk { file: FileBackend::new(file.unwrap()).unwrap(), faults: Arc::clone(&faults) };
    let engine = Engine::open_on(disk, path, sealer()).unwrap();
    (Store::open_on(engine, clock(), Arc::new(NoPeers), Ground::real()).await.unwrap(), faults)
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_until_the_store_is_opened_again() {
    let (_guard, path) = directory();
    let (store, faults) = open_on_faulty_disk(&path).await;
    store.propose(vec![init()]).await.unwrap();
    store.propose(vec![create_secret(1, "kept", 50)]).await.unwrap();

    faults.sync.store(true, Ordering::Relaxed);
    let failed = store.propose(vec![create_secret(2, "lost", 50)]).await.unwrap_err();
    faults.sync.store(false, Ordering::Relaxed);
    let refused = store.propose(vec![create_secret(3, "later", 50)]).await.unwrap_err();

    assert!(matches!(failed, ProposeError::Storage(_)), "{failed:?}");
    assert!(matches!(refused, ProposeError::Storage(_)), "{refused:?}");
    assert!(refused.to_string().contains("start secretd again"));
    assert!(store.view().secret(&secret_id(2)).is_none(), "what failed is not shown");
    store.failed().await;
    store.shutdown().await;
    let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();
    assert!(store.view().secret(&secret_id(1)).is_some(), "what was acknowledged is there");
    assert!(store.view().secret(&secret_id(3)).is_none());
    store.propose(vec![create_secret(4, "new", 50)]).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_in_the_middle_of_a_commit_is_named_and_costs_nothing_acknowledged() {
    let (_guard, path) = directory();
    let (store, faults) = open_on_faulty_disk(&path).await;
    store.propose(vec![init()]).await.unwrap();
    store.propose(vec![create_secret(1, "kept", 50)]).await.unwrap();

    faults.full.store(true, Ordering::Relaxed);
    let failed = store.propose(vec![create_secret(2, "lost", 400_000)]).await.unwrap_err();

    // Whether such a commit took effect is not known before the next start: that is no refusal.
    assert!(matches!(&failed, ProposeError::Storage(failure) if failure.is_full()), "{failed:?}");
    assert!(store.view().secret(&secret_id(2)).is_none());
    store.shutdown().await;
    let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();
    assert!(store.view().secret(&secret_id(2)).is_none());
    assert_eq!(store.payload(secret_id(1), 1).await.unwrap().as_deref(), Some(&payload(50, 1)));
}

fn filled(path: &Utf8Path) -> Engine {
    let engine = Engine::open(path, sealer()).unwrap();
    for index in 0..40u64 {
        let mut writes = Writes::default();
        writes.put(Key::log(index), value(index));
        engine.commit(writes).unwrap();
    }
    engine
}

fn value(index: u64) -> Vec<u8> {
    let length = if index.is_multiple_of(10) { 50_000 } else { 300 };
    (0..length).map(|at: u64| (at.wrapping_mul(31) + index).to_le_bytes()[0]).collect()
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    fs::create_dir_all(to).unwrap();
    for file in ["records.redb", "acknowledged"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Opens and reads everything: either all is as it was written, or there is a typed refusal.
fn all_or_refused(path: &Utf8Path, what: &str) -> bool {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let Ok(engine) = Engine::open(path, sealer()) else { return false };
        for index in 0..40 {
            match engine.get(&Key::log(index)) {
                Ok(read) => assert_eq!(read.map(|read| read.to_vec()), Some(value(index)), "{what}: entry {index}"),
                Err(StorageFailure::Damaged { .. } | StorageFailure::Io { .. }) => return false,
                Err(other) => panic!("{what}: {other:?}"),
            }
        }
        true
    }));
    checked.unwrap_or_else(|_| panic!("{what}: panicked, or gave wrong bytes"))
}

/// Offsets spread over a file, the same in every run.
fn samples(length: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % length.max(1))
}

fn flip(path: &Utf8Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1 << (offset % 8);
    file.write_all_at(&byte, offset).unwrap();
}

fn damage_everywhere(original: &Utf8Path, work: &Utf8Path, rounds: u64) -> (u32, u32) {
    let (mut whole, mut refused) = (0, 0);
    let mut tally = |is_whole: bool| if is_whole { whole += 1 } else { refused += 1 };
    for file in ["records.redb", "acknowledged"] {
        let length = fs::metadata(original.join(file)).unwrap().len();
        for offset in samples(length, rounds) {
            copy(original, work);
            flip(&work.join(file), offset);
            tally(all_or_refused(work, &format!("{file} flipped at {offset}")));
            copy(original, work);
            fs::File::options().write(true).open(work.join(file)).unwrap().set_len(offset).unwrap();
            tally(all_or_refused(work, &format!("{file} cut to {offset}")));
        }
    }
    (whole, refused)
}

#[test]
fn a_flipped_bit_or_a_cut_file_is_refused_or_harmless_after_a_clean_end() {
    let (_guard, path) = directory();
    filled(&path).close().unwrap();

    let (whole, refused) = damage_everywhere(&path, &path.with_extension("work"), 30);

    assert!(refused > 30, "{whole} whole, {refused} refused");
}

#[test]
fn a_flipped_bit_or_a_cut_file_is_refused_or_harmless_after_a_kill() {
    let (_guard, path) = directory();
    let engine = filled(&path);
    let killed = path.with_extension("killed");
    copy(&path, &killed); // what a killed process leaves: nothing was closed
    drop(engine);

    assert!(all_or_refused(
        &{
            let intact = path.with_extension("intact");
            copy(&killed, &intact);
            intact
        },
        "killed"
    ));
    let (whole, refused) = damage_everywhere(&killed, &path.with_extension("work"), 30);

    assert!(refused > 30, "{whole} whole, {refused} refused");
}

#[test]
fn a_file_that_lost_an_acknowledged_commit_is_refused() {
    let (_guard, path) = directory();
    let engine = filled(&path);
    let old = path.with_extension("old");
    copy(&path, &old);
    let mut writes = Writes::default();
    writes.put(Key::log(40), value(40));
    engine.commit(writes).unwrap();
    engine.close().unwrap();

    fs::copy(old.join("records.redb"), path.join("records.redb")).unwrap();
    let refused = Engine::open(&path, sealer()).unwrap_err();

    assert!(matches!(refused, OpenError::LostWrites { acknowledged: 42, found: 41, .. }), "{refused:?}");
}

#[test]
fn another_key_opens_nothing() {
    let (_guard, path) = directory();
    filled(&path).close().unwrap();

    let refused = Engine::open(&path, Sealer::new(&Dek::from_bytes(&[8; 32]))).unwrap_err();

    assert!(matches!(refused, OpenError::OtherKey { .. }), "{refused:?}");
}

#[test]
fn everything_is_sealed_anew_under_a_new_data_key_while_commits_go_on() {
    let (_guard, path) = directory();
    let sealer = sealer();
    let engine = Arc::new(Engine::open(&path, sealer.clone()).unwrap());
    for index in 0..40u64 {
        let mut writes = Writes::default();
        writes.put(Key::log(index), value(index));
        engine.commit(writes).unwrap();
    }
    let new = Dek::from_bytes(&[9; 32]);
    sealer.begin(1, &new);
    let writer = {
        let engine = Arc::clone(&engine);
        let write = move || {
            for index in 20..80u64 {
                let mut writes = Writes::default();
                writes.put(Key::log(index), value(index));
                engine.commit(writes).unwrap();
            }
        };
        std::thread::Builder::new().name("writer".to_owned()).spawn(write).unwrap()
    };

    let resealed = engine.reseal().unwrap();
    writer.join().unwrap();

    assert!((20..=50).contains(&resealed), "{resealed}");
    assert_eq!(engine.reseal().unwrap(), 0, "something was left");
    // The old key is gone: at once, and for the next start, the count of commits included.
    sealer.forget_older();
    for index in 0..80 {
        assert_eq!(engine.get(&Key::log(index)).unwrap().map(|read| read.to_vec()), Some(value(index)));
    }
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::open(&path, Sealer::of(1, &new)).unwrap();
    assert_eq!(engine.get(&Key::log(3)).unwrap().map(|read| read.to_vec()), Some(value(3)));
}

#[test]
fn reader_that_began_before_a_new_data_key_reads_to_its_end_and_the_old_one_goes_then() {
    let (_guard, path) = directory();
    drop(filled(&path));
    let sealer = sealer();
    let engine = Engine::open(&path, sealer.clone()).unwrap();
    let old = sealer.seal(b"here", b"record").unwrap();
    let mut read = Vec::new();

    let scanned = engine.scan(&Key::log(0), &Key::log(u64::MAX), |_, plaintext| {
        if read.is_empty() {
            sealer.begin(1, &Dek::from_bytes(&[9; 32]));
            engine.reseal().unwrap();
            sealer.forget_older();
        }
        read.push(plaintext.to_vec());
        Ok(Scan::Next)
    });

    scanned.unwrap();
    assert_eq!(read, (0..40).map(value).collect::<Vec<_>>());
    assert!(sealer.open(b"here", &old).is_err(), "the old key is there still");
}

#[test]
fn store_that_was_half_sealed_anew_opens_with_both_keys_and_goes_on() {
    let (_guard, path) = directory();
    let new = Dek::from_bytes(&[9; 32]);
    {
        let (engine, sealer) = (filled(&path), sealer());
        drop(engine);
        let engine = Engine::open(&path, sealer.clone()).unwrap();
        sealer.begin(1, &new);
        let mut writes = Writes::default();
        writes.put(Key::log(1), value(1));
        engine.commit(writes).unwrap(); // and the process ends
    }

    let both = sealer();
    both.begin(1, &new);
    let engine = Engine::open(&path, both.clone()).unwrap();
    assert!(engine.reseal().unwrap() >= 39);
    both.forget_older();

    for index in 0..40 {
        assert_eq!(engine.get(&Key::log(index)).unwrap().map(|read| read.to_vec()), Some(value(index)));
    }
}

#[test]
fn a_record_moved_to_another_place_is_refused() {
    let (_guard, path) = directory();
    let engine = filled(&path);
    {
        let database = engine.database.read();
        let write = database.as_ref().unwrap().begin_write().unwrap();
        {
            let mut table = write.open_table(super::RECORDS).unwrap();
            let sealed = table.get(Key::log(3).as_bytes()).unwrap().unwrap().value().to_vec();
            table.insert(Key::log(4).as_bytes(), sealed.as_slice()).unwrap();
        }
        write.commit().unwrap();
    }

    assert!(engine.get(&Key::log(3)).is_ok());
    assert!(matches!(engine.get(&Key::log(4)), Err(StorageFailure::Damaged { .. })));
}

#[tokio::test]
async fn a_damaged_payload_is_named_and_the_rest_goes_on() {
    let (_guard, path) = directory();
    let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();
    store.propose(vec![init()]).await.unwrap();
    store.propose(vec![create_secret(1, "a", 600), create_secret(2, "b", 600)]).await.unwrap();
    store.shutdown().await;
    let engine = Engine::open(&path, sealer()).unwrap();
    {
        let keys =
            engine.keys(&Key::payload(crate::op::PayloadRef::FIRST), &Key::payload(crate::op::PayloadRef::last_of(9)));
        let mut writes = Writes::default();
        writes.delete(keys.unwrap().remove(0));
        engine.commit(writes).unwrap();
        engine.close().unwrap();
    }
    let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();

    let damaged = store.payload(secret_id(1), 1).await.unwrap_err();

    assert!(matches!(damaged, ReadError::Corrupt(_)), "{damaged:?}");
    assert_eq!(store.payload(secret_id(2), 1).await.unwrap().as_deref(), Some(&payload(600, 2)));
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
    for errno in [rustix::io::Errno::ROFS, rustix::io::Errno::ACCESS, rustix::io::Errno::PERM] {
        let source = io::Error::from_raw_os_error(errno.raw_os_error());

        let refused = super::open::refused(&Utf8PathBuf::from("/data"), "open", source);

        assert!(matches!(refused, OpenError::NotWritable { .. }), "{refused:?}");
        assert!(refused.to_string().contains("mount the file system writable"));
    }
}
