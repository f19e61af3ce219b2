//! What other managers ask of this one's raft.

use std::fmt;
use std::sync::Arc;

use camino::Utf8PathBuf;
use secretd_proto::v1;
use tokio::sync::{Mutex, mpsc};

use super::config::Raft;
use super::message;
use super::stream::{Incoming, ReceiveError};
use crate::engine::Engine;
use crate::failure::StorageFailure;
use crate::record::raft::vote_message;

/// Why a request of another manager was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It is meant for another member: an address has passed on, or a node has become a manager anew.
    #[error("this is another member than the one that is meant")]
    OtherMember,
    /// It is no request of raft's.
    #[error("the request is not understood")]
    Message(#[from] StorageFailure),
    /// A snapshot did not come through.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// Raft has stopped here.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

/// Serves the requests of raft. Clones serve the same member.
#[derive(Clone)]
pub struct RaftServer {
    raft: Raft,
    member: u64,
    engine: Arc<Engine>,
    incoming: Utf8PathBuf,
    /// One snapshot at a time.
    receiving: Arc<Mutex<()>>,
}

impl fmt::Debug for RaftServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftServer").field("member", &self.member).finish_non_exhaustive()
    }
}

impl RaftServer {
    pub(crate) fn new(raft: Raft, member: u64, engine: Arc<Engine>) -> Self {
        let incoming = engine.directory().join("incoming");
        Self { raft, member, engine, incoming, receiving: Arc::default() }
    }

    /// Takes log entries. What is answered with success is durable.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn append(&self, request: v1::AppendRequest) -> Result<v1::AppendResponse, ServeError> {
        self.check(request.to)?;
        let request = message::append_request_of(request)?;
        let answer = self.raft.append_entries(request).await;
        answer.map(|answer| message::append_response(&answer)).map_err(|error| ServeError::Stopped(error.to_string()))
    }

    /// Answers a candidate. A vote that is given is durable.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn vote(&self, request: v1::VoteRequest) -> Result<v1::VoteResponse, ServeError> {
        self.check(request.to)?;
        let answer = self.raft.vote(message::vote_request_of(request)?).await;
        answer.map(|answer| message::vote_response(&answer)).map_err(|error| ServeError::Stopped(error.to_string()))
    }

    /// Takes a state in place of the log. When it returns, the state is durable and in every view.
    ///
    /// # Errors
    /// See [`ServeError`]; nothing is changed then.
    pub async fn install_snapshot(
        &self,
        mut chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, ServeError> {
        let _one = self.receiving.lock().await;
        let (directory, sealer, member) = (self.incoming.clone(), self.engine.sealer(), self.member);
        let receive = move || {
            let first = chunks.blocking_recv().ok_or(ReceiveError::BrokenOff)?;
            let mut incoming = Incoming::begin(directory, sealer, member, first)?;
            loop {
                let chunk = chunks.blocking_recv().ok_or(ReceiveError::BrokenOff)?;
                if incoming.take(chunk)? {
                    return Ok::<_, ReceiveError>(incoming);
                }
            }
        };
        let stopped = |error: String| ServeError::Stopped(error);
        let received = tokio::task::spawn_blocking(receive).await.map_err(|error| stopped(error.to_string()))?;
        let mut incoming = received?;
        let (vote, snapshot) = incoming.snapshot();
        let answer = self.raft.install_full_snapshot(vote, snapshot).await;
        let answer = answer.map_err(|error| stopped(error.to_string()))?;
        Ok(v1::SnapshotResponse { vote: Some(vote_message(&answer.vote)) })
    }

    fn check(&self, to: u64) -> Result<(), ServeError> {
        if to == self.member { Ok(()) } else { Err(ServeError::OtherMember) }
    }
}
