//! The proposer of a real node: hands proposals to the store's thread and waits for what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use secretd_core::seam::clock::Clock;
use secretd_core::secret::SealedPayload;
use secretd_core::time::Version;
use tokio::sync::{mpsc, oneshot};

use super::actor::{Request, Started};
use super::ballast::{BALLAST_BYTES, Ballast};
use crate::engine::{Engine, Key};
use crate::failure::StorageFailure;
use crate::ground::{Threads, aside};
use crate::op::{Op, PayloadRef, Proposal};
use crate::proposer::{ProposeError, Proposer, ReadError, check_payloads};
use crate::record::decode_payload;

/// Left free on the disk for operations that shrink the state or say how it is, so that a full disk can be cleared.
pub(super) const RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Below this nothing is written: the engine must not meet a full disk in the middle of a commit.
const LAST_BYTES: u64 = 1024 * 1024;

/// Replicates proposals and keeps them on disk.
#[derive(Debug)]
pub(crate) struct RaftProposer {
    requests: mpsc::Sender<Request>,
    clock: Arc<dyn Clock>,
    engine: Arc<Engine>,
    threads: Arc<dyn Threads>,
    /// Whether something was removed since space was given back last.
    reclaimable: AtomicBool,
    ballast: Ballast,
}

impl RaftProposer {
    pub(crate) fn new(started: Started, clock: Arc<dyn Clock>, engine: Arc<Engine>) -> Self {
        let Started { requests, threads, .. } = started;
        let ballast = Ballast::new(engine.disk(), engine.directory());
        Self { requests, clock, engine, threads, reclaimable: AtomicBool::new(true), ballast }
    }
}

impl RaftProposer {
    /// Refuses what does not fit on the disk, after giving back what can be given back.
    async fn make_room(&self, ops: &[Op]) -> Result<(), ProposeError> {
        let free = self.engine.free_bytes();
        if free >= 2 * (RESERVE_BYTES + BALLAST_BYTES) {
            self.ballast.take();
        }
        if fits(free, ops) {
            return Ok(());
        }
        // Giving back is written down too.
        let can_write = || self.engine.free_bytes() >= LAST_BYTES;
        if (can_write() || (self.ballast.give_up() && can_write())) && self.reclaimable.swap(false, Ordering::Relaxed) {
            self.reclaim().await;
        }
        let fits = || fits(self.engine.free_bytes(), ops);
        let shrinks = !ops.iter().any(Op::grows_state);
        if fits() || (shrinks && self.ballast.give_up() && fits()) {
            return Ok(());
        }
        self.ballast.take();
        Err(ProposeError::Full)
    }

    async fn reclaim(&self) {
        let (reply, done) = oneshot::channel();
        // Either fails when the store is closed, which the proposal that follows says.
        let _ = self.requests.send(Request::Reclaim { reply }).await;
        let _ = done.await;
    }
}

/// Whether `ops` fit on a disk with `free` bytes: they are refused while refusing is still harmless.
pub(super) fn fits(free: u64, ops: &[Op]) -> bool {
    let reserve = if ops.iter().any(Op::grows_state) { RESERVE_BYTES } else { LAST_BYTES };
    free >= space(ops) + reserve
}

/// What the payloads of `ops` may take on the disk: the engine allocates in powers of two.
pub(super) fn space(ops: &[Op]) -> u64 {
    let payloads = ops.iter().filter_map(Op::payload).filter_map(|(_, payload)| payload.sealed());
    payloads.map(|sealed| sealed.ciphertext.len() as u64 * 2).sum()
}

#[async_trait]
impl Proposer for RaftProposer {
    async fn propose(&self, ops: Vec<Op>) -> Result<Version, ProposeError> {
        check_payloads(&ops)?;
        if let Some(failure) = self.engine.failure() {
            return Err(storage_error(failure));
        }
        self.make_room(&ops).await?;
        let removes = ops.iter().any(Op::leaves_garbage);
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal { at: self.clock.now(), ops };
        let sent = self.requests.send(Request::Propose { proposal, reply }).await;
        sent.map_err(|_| ProposeError::Closed)?;
        let version = answer.await.map_err(|_| ProposeError::Closed)??;
        if removes {
            self.reclaimable.store(true, Ordering::Relaxed);
        }
        Ok(version)
    }

    async fn payload(&self, at: PayloadRef) -> Result<Option<Arc<SealedPayload>>, ReadError> {
        let engine = Arc::clone(&self.engine);
        let read = async move {
            let Some(bytes) = engine.get(&Key::payload(at))? else { return Ok(None) };
            decode_payload(bytes).map(|payload| Some(Arc::new(payload)))
        };
        // A read of up to half a megabyte from the disk.
        let read = aside(&*self.threads, read).await.ok_or(ReadError::Closed)?;
        read.map_err(|failure| read_error(Arc::new(failure)))
    }

    async fn failed(&self) -> Arc<StorageFailure> {
        self.engine.failed().await
    }

    async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        // Either fails when the store is closed already, which is what was asked for.
        let _ = self.requests.send(Request::Shutdown { reply }).await;
        let _ = done.await;
    }
}

/// What a failed commit means to a proposer: whether it took effect is not known, whatever the reason.
pub(super) fn storage_error(failure: Arc<StorageFailure>) -> ProposeError {
    ProposeError::Storage(failure)
}

fn read_error(failure: Arc<StorageFailure>) -> ReadError {
    match *failure {
        StorageFailure::Damaged { .. } | StorageFailure::Inconsistent { .. } => ReadError::Corrupt(failure),
        StorageFailure::Io { .. } | StorageFailure::Seal(_) => ReadError::Storage(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::fixture::{clock, create_secret, directory, init, payload, sealer, secret_id, update_secret};
    use crate::ground::Ground;
    use crate::peers::NoPeers;
    use crate::raft::actor;
    use crate::watch::Publisher;

    #[test]
    fn a_nearly_full_disk_still_takes_what_frees_it() {
        const MIB: u64 = 1024 * 1024;
        let remove = Op::RemoveSecret { id: secret_id(1) };
        for (free, op, expect) in [
            (9 * MIB, init(), true),
            (7 * MIB, init(), false),
            (9 * MIB, create_secret(1, "a", 500), true),
            (8 * MIB, create_secret(1, "a", 500), false),
            (9 * MIB + 1, create_secret(1, "a", 512_000), true),
            (8 * MIB + 1_000_000, create_secret(1, "a", 512_000), false),
            (8 * MIB, update_secret(1, 1, 500, 1), false),
            (2 * MIB, remove.clone(), true),
            (MIB - 1, remove, false),
        ] {
            assert_eq!(fits(free, std::slice::from_ref(&op)), expect, "{free} free, {op:?}");
        }
    }

    #[tokio::test]
    async fn what_was_removed_can_be_given_back_to_the_disk() {
        let (_guard, path) = directory();
        let length = || std::fs::metadata(path.join("records.redb")).unwrap().len();
        let engine = Arc::new(Engine::open(&path, sealer()).unwrap());
        let publisher = Arc::new(Publisher::default());
        let ground = Ground::real();
        let started = actor::start(Arc::clone(&engine), Arc::clone(&publisher), Arc::new(NoPeers), ground).await;
        let proposer = RaftProposer::new(started.unwrap(), clock(), engine);
        proposer.propose(vec![init()]).await.unwrap();
        for n in 1..=20 {
            proposer.propose(vec![create_secret(n, &format!("s{n}"), 400_000)]).await.unwrap();
        }
        for n in 2..=20 {
            proposer.propose(vec![Op::RemoveSecret { id: secret_id(n) }]).await.unwrap();
        }
        let before = length();

        proposer.reclaim().await;

        assert!(length() < before / 4, "{before} bytes before, {} after", length());
        let version = secretd_core::secret::SecretVersion(1);
        let kept = publisher.view().payload_ref(&secret_id(1), version).unwrap();
        assert_eq!(proposer.payload(kept).await.unwrap().as_deref(), Some(&payload(400_000, 1)));
        proposer.propose(vec![create_secret(2, "s2", 400_000)]).await.unwrap();
        proposer.shutdown().await;
    }
}
