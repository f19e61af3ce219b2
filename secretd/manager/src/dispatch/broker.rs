//! Brings a call that needs a node (logs, exec) together with that node's agent.
//!
//! The caller's side asks over the node's session; the agent answers by opening a Work stream that names the request.
//! The two ends are then joined directly: what the agent sends is read by the caller's own stream, so a slow caller slows
//! the agent down and nothing piles up in between. Dropping either end ends the other, so an agent that is done keeps its
//! end until the manager, having heard everything, lets go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secretd_proto::code::Code;
use secretd_proto::id::{NodeId, WorkId};
use secretd_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::session::Sessions;
use crate::refusal::Refusal;

/// How long an agent may take to begin.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages to the agent that it has not taken: keystrokes and blocks of standard input.
const INPUT_QUEUE: usize = 16;

/// Work that waits for its agent.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    sessions: Sessions,
    waiting: Arc<Mutex<HashMap<WorkId, oneshot::Sender<Joined>>>>,
}

/// The caller's end of a piece of work. Dropping it cancels the work.
#[derive(Debug)]
pub(crate) struct Joined {
    /// From the agent, after the message that named the work.
    pub(crate) outputs: Streaming<v1::WorkOutput>,
    /// To the agent.
    pub(crate) inputs: mpsc::Sender<v1::WorkInput>,
}

impl Broker {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self { sessions, waiting: Arc::default() }
    }

    /// Asks `node` for `work` and waits for its agent to begin.
    ///
    /// # Errors
    /// When the node is not connected or does not begin in time; `host` names it.
    pub(crate) async fn start(
        &self,
        node: NodeId,
        host: &str,
        work: v1::work_request::Work,
    ) -> Result<Joined, Refusal> {
        let unavailable = || Refusal::new(Code::RemoteUnreachable, format!("node {host} is not available"));
        let id = WorkId::random();
        let (tx, rx) = oneshot::channel();
        self.waiting.lock().insert(id, tx);
        let _forget = Forget { waiting: Arc::clone(&self.waiting), id };
        let request = v1::WorkRequest { work_id: id.to_string(), work: Some(work) };
        self.sessions.ask(node, request).map_err(|_| unavailable())?;
        match tokio::time::timeout(JOIN_TIMEOUT, rx).await {
            Ok(Ok(joined)) => Ok(joined),
            Ok(Err(_)) | Err(_) => Err(unavailable()),
        }
    }

    /// Joins an agent's Work stream with the caller that waits for it, and returns what goes to the agent.
    ///
    /// # Errors
    /// When the stream names no work that somebody waits for.
    pub(crate) async fn join(
        &self,
        mut outputs: Streaming<v1::WorkOutput>,
    ) -> Result<mpsc::Receiver<v1::WorkInput>, Status> {
        let first = outputs.message().await?;
        let id: Option<WorkId> = first.and_then(|first| first.work_id.parse().ok());
        let waiting = id.and_then(|id| self.waiting.lock().remove(&id));
        let (inputs, rx) = mpsc::channel(INPUT_QUEUE);
        let is_joined = waiting.is_some_and(|waiting| waiting.send(Joined { outputs, inputs }).is_ok());
        match is_joined {
            true => Ok(rx),
            false => Err(Refusal::new(Code::NotFound, "nobody waits for this work any more").into()),
        }
    }
}

/// Takes a request out of the books when its caller goes away.
#[derive(Debug)]
struct Forget {
    waiting: Arc<Mutex<HashMap<WorkId, oneshot::Sender<Joined>>>>,
    id: WorkId,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

/// What the agent says of a failure, as a refusal.
pub(crate) fn failure(failure: &v1::WorkFailure) -> Refusal {
    Refusal::new(Code::parse(&failure.code).unwrap_or(Code::Internal), &failure.message)
}
