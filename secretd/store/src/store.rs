//! The store as managers use it: views, watches, proposals and payloads, whatever is underneath.

use std::sync::Arc;

use camino::Utf8Path;
use secretd_core::seam::clock::Clock;
use secretd_core::secret::{SealedPayload, SecretVersion};
use secretd_core::time::Version;
use secretd_proto::id::SecretId;
use secretd_sealing::at_rest::Sealer;

use crate::engine::{Engine, OpenError};
use crate::failure::StorageFailure;
use crate::ground::{Ground, aside};
use crate::op::Op;
use crate::peers::{Member, Peers};
use crate::proposer::{ProposeError, Proposer, ReadError};
use crate::raft::actor;
use crate::raft::alone::{AloneError, make_alone};
use crate::raft::proposer::RaftProposer;
use crate::replica::Replica;
use crate::view::View;
use crate::watch::{Publisher, Watch};

/// The replicated state. Clones are handles to the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) proposer: Arc<dyn Proposer>,
    /// Of a replicated store.
    replica: Option<Replica>,
}

impl Store {
    /// Opens the store in `dir`, which is made when it is not there, and takes it for this process alone. Where
    /// this is the only manager, everything that was ever acknowledged is in the view when it returns.
    ///
    /// A new store is part of no cluster: the first proposal must be `Op::InitCluster`, or a leader must make it a member.
    /// Where there are other managers, what was acknowledged is in the view once this one has heard of a leader.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        dir: &Utf8Path,
        sealer: Sealer,
        clock: Arc<dyn Clock>,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, OpenError> {
        Self::open_upon(Ground::real(), dir, sealer, clock, peers).await
    }

    /// As [`Store::open`], upon another ground.
    pub(crate) async fn open_upon(
        ground: Ground,
        dir: &Utf8Path,
        sealer: Sealer,
        clock: Arc<dyn Clock>,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, OpenError> {
        let (disk, path) = (Arc::clone(&ground.disk), dir.to_owned());
        let opened = aside(&*ground.threads, async move { Engine::open_in(disk, &path, sealer) }).await;
        let engine = opened.ok_or_else(|| OpenError::Thread(std::io::Error::other("it stopped")))??;
        Self::open_on(engine, clock, peers, ground).await
    }

    /// Makes the store in `dir`, which must be closed, that of the only manager `own`: the way out when the majority of
    /// managers is lost. What its log has counts from then on, whether or not the others have agreed to it; the others must
    /// not go on with theirs.
    ///
    /// # Errors
    /// See [`AloneError`]; nothing is changed then.
    pub async fn make_alone(dir: &Utf8Path, sealer: Sealer, own: Member) -> Result<(), AloneError> {
        let path = dir.to_owned();
        let made = tokio::task::spawn_blocking(move || make_alone(&path, sealer, own)).await;
        made.map_err(|_| OpenError::Thread(std::io::Error::other("it stopped")))?
    }

    pub(crate) async fn open_on(
        engine: Engine,
        clock: Arc<dyn Clock>,
        peers: Arc<dyn Peers>,
        ground: Ground,
    ) -> Result<Self, OpenError> {
        let engine = Arc::new(engine);
        let publisher = Arc::new(Publisher::default());
        let started = actor::start(Arc::clone(&engine), Arc::clone(&publisher), peers, ground).await?;
        let replica = Replica::new(&started, Arc::clone(&engine));
        let proposer = Arc::new(RaftProposer::new(started, clock, engine));
        Ok(Self { publisher, proposer, replica: Some(replica) })
    }

    /// A store that keeps nothing: the same operations and rules in memory, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub async fn in_memory(clock: Arc<dyn Clock>) -> Self {
        let publisher = Arc::new(Publisher::default());
        let proposer = Arc::new(crate::local::LocalProposer::new(clock, Arc::clone(&publisher)));
        Self { publisher, proposer, replica: None }
    }

    /// The current state.
    pub fn view(&self) -> View {
        self.publisher.view()
    }

    /// The current state, and every change after it: none is missed, none comes twice. A watch that ends while the store is
    /// not closed is followed by another: the state was replaced as a whole.
    pub fn view_and_watch(&self) -> (View, Watch) {
        self.publisher.view_and_watch()
    }

    /// Whether the store is closed: no watch will see a change any more.
    pub fn is_closed(&self) -> bool {
        self.publisher.is_closed()
    }

    /// Applies all of `ops` or none. When it returns, they are durable, and in every view taken from then on.
    ///
    /// The version is that of the state after them; it is the current one when nothing had to be changed. A call that is
    /// dropped may still take effect.
    ///
    /// # Errors
    /// See [`ProposeError`]; after `Conflict`, `PayloadLength` and `Full` nothing has happened.
    pub async fn propose(&self, ops: Vec<Op>) -> Result<Version, ProposeError> {
        self.proposer.propose(ops).await
    }

    /// The sealed payload of one version of a secret, unless that version is not kept any more.
    ///
    /// # Errors
    /// When its record is damaged or cannot be read.
    pub async fn payload(&self, secret: SecretId, version: u64) -> Result<Option<Arc<SealedPayload>>, ReadError> {
        let find = || self.view().payload_ref(&secret, SecretVersion(version));
        let Some(at) = find() else { return Ok(None) };
        if let Some(payload) = self.proposer.payload(at).await? {
            return Ok(Some(payload));
        }
        if find() != Some(at) {
            return Ok(None); // dropped in between
        }
        let what = format!("a payload of secret {secret} is missing");
        Err(ReadError::Corrupt(Arc::new(StorageFailure::Inconsistent { what })))
    }

    /// This manager's part in raft; none where the store is in memory alone.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// Whether what happens in the cluster is decided here. A store in memory has nobody else.
    pub fn leads(&self) -> bool {
        self.replica.as_ref().is_none_or(|replica| replica.leadership().leads)
    }

    /// Waits until the disk or the engine has failed. From then on every proposal is refused, until the store is opened
    /// again: the process had best end.
    pub async fn failed(&self) -> Arc<StorageFailure> {
        self.proposer.failed().await
    }

    /// Waits for what is under way, makes everything durable, and closes: for every clone.
    pub async fn shutdown(self) {
        self.proposer.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
