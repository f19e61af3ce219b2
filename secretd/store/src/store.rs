//! The store as managers use it: views, watches, proposals and payloads, whatever is underneath.

use std::sync::Arc;

use secretd_core::secret::{SealedPayload, SecretVersion};
use secretd_core::time::Version;
use secretd_proto::id::SecretId;

use crate::op::Op;
use crate::proposer::{ProposeError, Proposer, ReadError};
use crate::view::View;
use crate::watch::{Publisher, Watch};

/// The replicated state. Clones are handles to the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) proposer: Arc<dyn Proposer>,
}

impl Store {
    /// A store that keeps nothing: the same operations and rules in memory, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub async fn in_memory(clock: Arc<dyn secretd_core::seam::clock::Clock>) -> Self {
        let publisher = Arc::new(Publisher::default());
        let proposer = Arc::new(crate::local::LocalProposer::new(clock, Arc::clone(&publisher)));
        Self { publisher, proposer }
    }

    /// The current state.
    pub fn view(&self) -> View {
        self.publisher.view()
    }

    /// The current state, and every change after it: none is missed, none comes twice.
    pub fn view_and_watch(&self) -> (View, Watch) {
        self.publisher.view_and_watch()
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
        let Some(at) = self.view().payload_ref(&secret, SecretVersion(version)) else { return Ok(None) };
        self.proposer.payload(at).await
    }

    /// Waits for what is under way, makes everything durable, and closes: for every clone.
    pub async fn shutdown(self) {
        self.proposer.shutdown().await;
    }
}
