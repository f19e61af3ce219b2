//! Measures what docs/adr/0001 rests on: durable log appends of the engine and whole creates of the store, beside a bare
//! fdatasync of the same size in the same directory; read-back, reopening, memory. Run it on the disk that counts:
//! `cargo run --release -p secretd-store --example engine -- DIRECTORY`

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::cast_precision_loss)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use redb::{Durability, ReadableDatabase, TableDefinition};
use secretd_core::node::{Availability, ClusterSpec, Node, NodeDescription, NodeState};
use secretd_core::seam::clock::SystemClock;
use secretd_core::secret::{SealedPayload, SecretSpec};
use secretd_core::time::{Meta, Version};
use secretd_proto::id::{ClusterId, NodeId, SecretId};
use secretd_sealing::at_rest::Sealer;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::{Dek, KeyBytes};
use secretd_store::peers::NoPeers;
use secretd_store::{ClusterRecord, Founding, Op, Store};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let base = std::env::args().nth(1).ok_or("give a directory on the disk that counts")?;
    let directory = Utf8PathBuf::from(base).join("engine-measurement");
    std::fs::create_dir_all(&directory)?;
    for (size, count) in [(512, 2000), (500_000, 400)] {
        println!("-- {size} B, {count} times");
        fdatasync(&directory, size, count)?;
        engine(&directory, size, count)?;
        store(&directory, size, count, 1).await?;
        store(&directory, size, count, 16).await?;
    }
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The floor: appends to a file, each made durable.
fn fdatasync(directory: &Utf8Path, size: u32, count: u32) -> Outcome<()> {
    let bytes = noise(size);
    let mut file = File::create(directory.join("raw"))?;
    let mut times = Times::default();
    for _ in 0..count {
        times.time(|| {
            file.write_all(&bytes)?;
            Ok(file.sync_data()?)
        })?;
    }
    times.show("append + fdatasync");
    Ok(())
}

/// The engine alone, as the store uses it.
fn engine(directory: &Utf8Path, size: u32, count: u32) -> Outcome<()> {
    let path = directory.join(format!("redb-{size}"));
    let open = || redb::Builder::new().set_cache_size(1 << 20).set_check_integrity_on_open(true).create(&path);
    let bytes = noise(size);
    let database = open()?;
    let mut times = Times::default();
    for index in 0..count {
        times.time(|| {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.open_table(LOG)?.insert(u64::from(index), bytes.as_slice())?;
            Ok(write.commit()?)
        })?;
    }
    times.show("redb: durable append");
    let mut times = Times::default();
    for index in 0..count {
        times.time(|| {
            let table = database.begin_read()?.open_table(LOG)?;
            let read = table.get(u64::from(index))?.map(|value| value.value() == bytes.as_slice());
            if read == Some(true) { Ok(()) } else { Err("other bytes than were written".into()) }
        })?;
    }
    times.show("redb: read");
    drop(database);
    let begun = Instant::now();
    drop(open()?);
    println!("{:32} {:8.1} ms", "redb: reopen, checked", begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Whole creates of secrets: raft, sealing at rest, durable, applied.
async fn store(directory: &Utf8Path, size: u32, count: u32, clients: u32) -> Outcome<()> {
    let path = directory.join(format!("store-{size}-{clients}"));
    let sealer = Sealer::new(&Dek::generate()?);
    let open = || Store::open(&path, sealer.clone(), Arc::new(SystemClock), Arc::new(NoPeers));
    let store = open().await?;
    store.propose(vec![found()?]).await?;
    let begun = Instant::now();
    let running: Vec<_> = (0..clients)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move { create(&store, client, size, count / clients).await })
        })
        .collect();
    let mut times = Times::default();
    for client in running {
        times.0.extend(client.await??.0);
    }
    let rate = times.0.len() as f64 / begun.elapsed().as_secs_f64();
    times.show(&format!("store: create, {clients} clients"));
    println!("{:32} {rate:8.0}/s; {}", "", memory());
    let secrets: Vec<_> = store.view().secrets().cloned().collect();
    let mut times = Times::default();
    for secret in &secrets {
        let begun = Instant::now();
        store.payload(secret.id, 1).await?.ok_or("a payload is missing")?;
        times.0.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.show("store: payload");
    store.shutdown().await;
    let begun = Instant::now();
    let store = open().await?;
    println!("{:32} {:8.1} ms", "store: reopen", begun.elapsed().as_secs_f64() * 1e3);
    store.shutdown().await;
    Ok(())
}

async fn create(store: &Store, client: u32, size: u32, count: u32) -> Outcome<Times> {
    let mut times = Times::default();
    for number in 0..count {
        let payload = SealedPayload { ciphertext: noise(size + 16), wrapped_dek: noise(80) };
        let spec = SecretSpec { name: format!("s{client}-{number}").parse()?, labels: BTreeMap::new() };
        let op = Op::CreateSecret { id: SecretId::random(), spec, length: size, payload: payload.into() };
        let begun = Instant::now();
        store.propose(vec![op]).await?;
        times.0.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn found() -> Outcome<Op> {
    let node = Node {
        id: NodeId::random(),
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        manager: true,
        state: NodeState::Ready,
        message: String::new(),
        address: String::new(),
        spec_version: Version::default(),
        certificate: None,
        description: NodeDescription::default(),
    };
    let key = || KeyBytes::new(vec![0; 16]);
    let founding = Founding {
        sealing: PrivateKey::generate()?,
        root: Vec::new(),
        authority: key(),
        worker: key(),
        manager: key(),
    };
    let record = ClusterRecord::new(ClusterId::random(), ClusterSpec::default(), founding);
    Ok(Op::InitCluster { record, node })
}

/// Milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn time(&mut self, step: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        let begun = Instant::now();
        step()?;
        self.0.push(begun.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    fn show(mut self, what: &str) {
        self.0.sort_by(f64::total_cmp);
        let at = |part: usize| self.0.get(self.0.len() * part / 100).copied().unwrap_or_default();
        let rate = self.0.len() as f64 / self.0.iter().sum::<f64>() * 1e3;
        println!("{what:32} p50 {:7.3} ms  p99 {:7.3} ms  {rate:8.0}/s one after another", at(50), at(99));
    }
}

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("RssAnon") || line.starts_with("VmHWM"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}
