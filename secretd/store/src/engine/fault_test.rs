//! Each write, sync and change of length of the store's file fails once, one after another, in a scenario that has one of
//! everything: nothing is acknowledged after it, and everything that was acknowledged before it is there.
//!
//! What a failed sync leaves is the worst: what was written since the last good one is gone, and the next sync would
//! succeed (as Linux does it, where the pages count as clean then).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;

use camino::Utf8Path;
use parking_lot::Mutex;
use redb::StorageBackend;

use super::Engine;
use crate::failure::StorageFailure;
use crate::fixture::{clock, create_secret, directory, init, payload, sealer, secret_id, update_secret};
use crate::ground::Ground;
use crate::op::Op;
use crate::peers::NoPeers;
use crate::proposer::ProposeError;
use crate::proposer::Proposer;
use crate::raft::actor::{self, Request};
use crate::raft::proposer::RaftProposer;
use crate::store::Store;
use crate::watch::Publisher;

/// The kinds of calls that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Site {
    Write,
    Sync,
    SetLen,
}

/// A disk of which one call fails, once.
#[derive(Debug, Clone)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What reads see.
    current: Vec<u8>,
    /// What is there after a loss of power.
    durable: Vec<u8>,
    site: Site,
    /// Calls of that kind until one fails.
    left: usize,
    fired: bool,
}

impl Disk {
    fn new(site: Site, number: usize) -> Self {
        let state = State { current: Vec::new(), durable: Vec::new(), site, left: number, fired: false };
        Self(Arc::new(Mutex::new(state)))
    }

    fn fired(&self) -> bool {
        self.0.lock().fired
    }

    /// What a crash leaves: the process alone, or the machine.
    fn images(&self) -> [Vec<u8>; 2] {
        let state = self.0.lock();
        [state.current.clone(), state.durable.clone()]
    }
}

impl State {
    fn fails(&mut self, site: Site) -> bool {
        if self.site != site || self.fired {
            return false;
        }
        self.left -= 1;
        self.fired = self.left == 0;
        self.fired
    }
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        let state = self.0.lock();
        out.copy_from_slice(state.current.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        if state.fails(Site::SetLen) {
            return Err(io_error());
        }
        state.current.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        if state.fails(Site::Sync) {
            state.current = state.durable.clone();
            return Err(io_error());
        }
        state.durable = state.current.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        let start = usize::try_from(offset).unwrap();
        if state.fails(Site::Write) {
            // Half of it is there.
            state.current[start..start + data.len() / 2].copy_from_slice(&data[..data.len() / 2]);
            return Err(io_error());
        }
        state.current[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// What is known of the secrets: the version that was acknowledged last, and whether it may be another now.
#[derive(Debug, Default)]
struct Known {
    acknowledged: BTreeMap<u8, Option<u64>>,
    in_doubt: Option<u8>,
    any: bool,
}

/// What the scenario asks for, one after another.
fn steps() -> Vec<(u8, Option<u64>, Op)> {
    let mut steps = vec![(0, None, init())];
    for n in 1..=5 {
        let length = if n == 2 { 300_000 } else { 50 };
        steps.push((n, Some(1), create_secret(n, &format!("s{n}"), length)));
    }
    steps.push((1, Some(2), update_secret(1, 1, 60, 101)));
    steps.push((2, None, Op::RemoveSecret { id: secret_id(2) }));
    steps
}

/// Runs the scenario on `disk`: what was acknowledged. Everything after the fault is refused.
async fn run(disk: &Disk, path: &Utf8Path) -> Known {
    let mut known = Known::default();
    fs::create_dir_all(path).unwrap();
    let Ok(engine) = Engine::open_on(disk.clone(), path, sealer()) else {
        assert!(disk.fired());
        return known;
    };
    let engine = Arc::new(engine);
    let publisher = Arc::new(Publisher::default());
    let Ok(started) = actor::start(Arc::clone(&engine), publisher, Arc::new(NoPeers), Ground::real()).await else {
        assert!(disk.fired());
        return known;
    };
    let proposer = RaftProposer::new(started.clone(), clock(), Arc::clone(&engine));
    let later = [(6, Some(1), create_secret(6, "s6", 70)), (7, Some(1), create_secret(7, "s7", 70))];
    for (n, version, op) in steps() {
        propose(&proposer, disk, &mut known, (n, version, op)).await;
    }
    // A snapshot, a purge and a shorter file; and writes after it.
    let (reply, done) = tokio::sync::oneshot::channel();
    started.requests.send(Request::Reclaim { reply }).await.unwrap();
    let _ = done.await;
    for step in later {
        propose(&proposer, disk, &mut known, step).await;
    }
    if disk.fired() {
        let failure = engine.failure().expect("the store goes on after a call to the disk has failed");
        assert!(matches!(&*failure, StorageFailure::Io { .. }), "{failure:?}");
    }
    proposer.shutdown().await;
    known
}

async fn propose(proposer: &RaftProposer, disk: &Disk, known: &mut Known, (n, version, op): (u8, Option<u64>, Op)) {
    let was_broken = disk.fired();
    match proposer.propose(vec![op]).await {
        Ok(_) => {
            assert!(!disk.fired(), "acknowledged although a call to the disk had failed");
            known.acknowledged.insert(n, version);
            known.any = true;
        }
        Err(error) => {
            assert!(disk.fired(), "{error:?} without a fault");
            assert!(matches!(error, ProposeError::Storage(_) | ProposeError::Closed), "{error:?}");
            if !was_broken {
                known.in_doubt = Some(n);
            }
        }
    }
}

/// Opens what is left, and compares it with what was acknowledged.
async fn check(image: &[u8], path: &Utf8Path, known: &Known, what: &str) {
    let again = path.with_extension("again");
    let _ = fs::remove_dir_all(&again);
    fs::create_dir_all(&again).unwrap();
    fs::write(again.join("records.redb"), image).unwrap();
    if path.join("acknowledged").exists() {
        fs::copy(path.join("acknowledged"), again.join("acknowledged")).unwrap();
    }
    let opened = Store::open(&again, sealer(), clock(), Arc::new(NoPeers)).await;
    let store = match opened {
        Ok(store) => store,
        Err(error) if !known.any => return assert!(known.acknowledged.is_empty(), "{what}: {error:?}"),
        Err(error) => panic!("{what}: {error:?}"),
    };
    for (n, version) in known.acknowledged.iter().filter(|(n, _)| **n > 0 && known.in_doubt != Some(**n)) {
        let view = store.view();
        let there = view.secret(&secret_id(*n)).map(|secret| secret.version.0);
        assert_eq!(there, *version, "{what}: secret {n}");
        if let Some(version) = version {
            let fill = if *version == 2 { 101 } else { *n };
            let got = store.payload(secret_id(*n), *version).await.unwrap();
            let got = got.unwrap();
            assert_eq!(*got, payload(u32::try_from(got.ciphertext.len()).unwrap() - 16, fill), "{what}: secret {n}");
        }
    }
    for n in 1..=7 {
        let phantom = !known.acknowledged.contains_key(&n) && known.in_doubt != Some(n);
        assert!(!phantom || store.view().secret(&secret_id(n)).is_none(), "{what}: secret {n} was never asked for");
    }
    store.shutdown().await;
}

/// Has each call of a kind fail in turn, until the scenario has no more of them: how many there are.
async fn each(site: Site) -> usize {
    for number in 1.. {
        let (_guard, path) = directory();
        let disk = Disk::new(site, number);
        let known = run(&disk, &path).await;
        if !disk.fired() {
            assert_eq!(known.acknowledged.len(), 8, "{known:?}");
            return number - 1;
        }
        for (image, left) in disk.images().iter().zip(["killed", "without power"]) {
            check(image, &path, &known, &format!("{site:?} number {number}, {left}")).await;
        }
    }
    0
}

#[tokio::test]
async fn each_sync_that_fails_stops_the_store_and_costs_nothing_acknowledged() {
    let count = each(Site::Sync).await;
    assert!(count > 20, "{count}");
}

#[tokio::test]
async fn each_write_that_fails_stops_the_store_and_costs_nothing_acknowledged() {
    let count = each(Site::Write).await;
    assert!(count > 100, "{count}");
}

#[tokio::test]
async fn each_change_of_length_that_fails_stops_the_store_and_costs_nothing_acknowledged() {
    let count = each(Site::SetLen).await;
    assert!(count > 2, "{count}");
}
