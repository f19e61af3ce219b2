//! The conversation with a manager: begins, is kept alive, and begins again when it breaks.
//!
//! All that a session carries runs in it and ends with it; the worker goes on, and so do logs and commands when the session
//! begins anew because of a new certificate. The pause before the next attempt grows
//! and is jittered, so that a thousand agents do not come back at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secretd_core::node::NodeDescription;
use secretd_core::seam::runtime::Runtime;
use secretd_core::wire::{WireError, duration_from_wire};
use secretd_proto::code::{Code, LEADER_KEY, METADATA_KEY};
use secretd_proto::id::NodeId;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1;
use secretd_proto::v1::dispatcher_client::DispatcherClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::assignment;
use crate::managers::Managers;
use crate::report::Reports;
use crate::seen::{Older, Seen};
use crate::work;
use crate::worker::Worker;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Shorter than the time that a new leader gives its nodes, which is six heartbeats.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A manager that does not answer in this time is as good as gone.
const ANSWER: Duration = Duration::from_secs(3);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The manager, or the way to it.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] tonic::Status),
    /// The manager said something that is not understood.
    #[error("an assignment is not understood: {0}")]
    Wire(#[from] WireError),
    /// The manager ended it.
    #[error("the manager has ended the session")]
    Ended,
    /// The manager does not answer.
    #[error("the manager has not answered in {ANSWER:?}")]
    Silent,
    /// The node has another certificate.
    #[error("this node has a new certificate")]
    Renewed,
    /// The manager's state went back.
    #[error(transparent)]
    Older(#[from] Older),
    /// A part of it panicked.
    #[error("a part of the session has panicked")]
    Panicked,
}

/// What sessions need.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) node: NodeId,
    pub(crate) managers: Arc<dyn Managers>,
    pub(crate) description: watch::Receiver<NodeDescription>,
    pub(crate) reports: Reports,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) worker: Worker,
    pub(crate) connected: watch::Sender<bool>,
    /// Logs and commands that managers have asked for: they outlive a session that ends because of a new certificate.
    pub(crate) running: Running,
    /// The session that has begun last.
    pub(crate) current: Option<(Client, String)>,
}

pub(crate) type Client = DispatcherClient<Channel>;
/// Clones share it.
pub(crate) type Running = Arc<Mutex<JoinSet<()>>>;

impl Sessions {
    /// One session after another, for ever.
    pub(crate) async fn run(&mut self) -> Infallible {
        let mut pauses = Pauses::default();
        let mut leader: Option<String> = None;
        let seen = Seen::recall(Arc::clone(&self.managers));
        loop {
            let began = tokio::time::Instant::now();
            let Err(error) = self.session(leader.as_deref(), &seen).await;
            let named = error.leader();
            tracing::info!(%error, "the session has ended");
            let had_begun = self.current.take().is_some();
            if matches!(error, SessionError::Renewed) {
                continue; // the manager is as good as before
            }
            // An attempt that came to nothing ends nothing: it may be the first after a new certificate.
            if had_begun {
                self.running.lock().abort_all();
            }
            if error.is(Code::RootReplaced) || error.is(Code::NodeRemoved) {
                self.managers.outdated();
            }
            if error.is(Code::NodeRemoved) {
                // What it has been given is not its any more.
                tracing::warn!("this node was removed from the cluster: its tasks end");
                self.connected.send_if_modified(std::mem::take);
                self.worker.complete(Vec::new()).await;
            }
            if let Some(why) = error.rollback() {
                self.managers.doubt(&why);
            }
            // Who is told where the leader is goes there at once, once.
            if named.is_some() && named != leader {
                leader = named;
                continue;
            }
            leader = None;
            // A node with a manager of its own need not ask who leads again and again. Both are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(jittered(pauses.after(began.elapsed()))) => {}
                () = self.managers.led_anew() => {}
            }
        }
    }

    /// Tells the manager that this node leaves the cluster. It would find out by itself, later.
    pub(crate) async fn say_goodbye(&mut self) {
        let Some((mut client, session_id)) = self.current.take() else { return };
        if let Err(error) = soon(client.leave(v1::LeaveRequest { session_id })).await {
            tracing::info!(%error, "the manager was not told that this node leaves");
        }
    }

    async fn session(&mut self, leader: Option<&str>, seen: &Seen) -> Result<Infallible, SessionError> {
        let mut client = DispatcherClient::new(self.managers.channel(leader))
            .max_decoding_message_size(MAX_MESSAGE_LENGTH)
            .max_encoding_message_size(MAX_MESSAGE_LENGTH);
        let mut certificates = self.managers.certificates();
        let described = self.description.borrow_and_update().clone();
        let request = v1::SessionRequest {
            node_id: self.node.to_string(),
            description: Some(described.into()),
            seen: seen.stores(),
        };
        let mut messages = soon(client.session(request)).await?.into_inner();
        let first = soon(messages.message()).await?.ok_or(SessionError::Ended)?;
        seen.look(first.position)?;
        let id = first.session_id;
        self.managers.told(first.membership.unwrap_or_default());
        let heartbeat = duration_from_wire("heartbeat", first.heartbeat, Duration::from_secs(5))?;
        let request = v1::AssignmentsRequest { session_id: id.clone() };
        let assignments = soon(client.assignments(request)).await?.into_inner();
        tracing::info!("connected to a manager");
        self.connected.send_replace(true);
        self.current = Some((client.clone(), id.clone()));

        self.reports.all_unsent();
        let mut parts = JoinSet::new();
        parts.spawn(keep_alive(client.clone(), id.clone(), heartbeat, seen.clone()));
        parts.spawn(report(client.clone(), id.clone(), self.reports.clone()));
        parts.spawn(describe(client.clone(), id, self.description.clone()));
        let work = Work {
            runtime: Arc::clone(&self.runtime),
            managers: Arc::clone(&self.managers),
            running: Arc::clone(&self.running),
        };
        parts.spawn(take_work(client, messages, work));
        tokio::select! {
            biased;
            ended = parts.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Ok(Ok(never))) => match never {},
                Some(Err(_)) | None => Err(SessionError::Panicked),
            },
            () = renewed(&mut certificates) => Err(SessionError::Renewed),
            followed = follow(&mut self.worker, assignments) => followed,
        }
    }
}

/// Returns when there is another certificate than at first.
async fn renewed(certificates: &mut watch::Receiver<u64>) {
    if certificates.changed().await.is_err() {
        std::future::pending::<()>().await; // there are no further ones
    }
}

/// Takes assignments. A change that does not follow on what was told last ends the session: the next one begins anew.
async fn follow(
    worker: &mut Worker,
    mut stream: Streaming<v1::AssignmentsMessage>,
) -> Result<Infallible, SessionError> {
    use v1::assignments_message::Kind;
    let mut sequence = String::new();
    let mut complete = Vec::new();
    loop {
        let message = stream.message().await?.ok_or(SessionError::Ended)?;
        let kind = Kind::try_from(message.kind).map_err(|_| WireError::new("kind", "is not known to this release"))?;
        if kind == Kind::Incremental && message.applies_to != sequence {
            return Err(WireError::new("applies_to", "does not follow on the last change").into());
        }
        sequence = message.results_in;
        let changes = assignment::parse(message.changes)?;
        match kind {
            Kind::Complete => {
                complete.extend(changes);
                if !message.more {
                    worker.complete(std::mem::take(&mut complete)).await;
                }
            }
            Kind::Incremental => worker.incremental(changes).await,
        }
    }
}

/// A manager misses three before the node is down, so one that comes late is made up for.
async fn keep_alive(
    mut client: Client,
    session: String,
    period: Duration,
    seen: Seen,
) -> Result<Infallible, SessionError> {
    let (sender, beats) = mpsc::channel(1);
    let mut answers = soon(client.heartbeat(ReceiverStream::new(beats))).await?.into_inner();
    loop {
        tokio::time::sleep(period).await;
        let beat = v1::HeartbeatRequest { session_id: session.clone() };
        let _ = sender.send(beat).await; // when nobody takes it, the answer says why
        let answer = soon(answers.message()).await?.ok_or(SessionError::Ended)?;
        seen.look(answer.position)?;
    }
}

/// Tells what has accumulated while the last call was under way.
async fn report(mut client: Client, session: String, reports: Reports) -> Result<Infallible, SessionError> {
    loop {
        let statuses = reports.next().await;
        let updates = statuses
            .into_iter()
            .map(|(task, status)| v1::TaskStatusUpdate { task_id: task.to_string(), status: Some(status.into()) })
            .collect();
        let request = v1::UpdateTaskStatusRequest { session_id: session.clone(), updates };
        client.update_task_status(request).await?; // a new session tells everything again
        reports.acknowledge();
    }
}

/// Tells a new description of the node: above all a new key of secret-fs.
async fn describe(
    mut client: Client,
    session: String,
    mut description: watch::Receiver<NodeDescription>,
) -> Result<Infallible, SessionError> {
    loop {
        description.changed().await.map_err(|_| SessionError::Ended)?;
        let described = description.borrow_and_update().clone();
        let request = v1::UpdateNodeRequest { session_id: session.clone(), description: Some(described.into()) };
        client.update_node(request).await?;
    }
}

/// What work needs.
struct Work {
    runtime: Arc<dyn Runtime>,
    managers: Arc<dyn Managers>,
    running: Running,
}

/// Takes what the manager asks for, each in a task of its own.
async fn take_work(
    client: Client,
    mut messages: Streaming<v1::SessionMessage>,
    work: Work,
) -> Result<Infallible, SessionError> {
    let Work { runtime, managers, running } = work;
    loop {
        let message = messages.message().await?.ok_or(SessionError::Ended)?;
        if let Some(membership) = message.membership {
            managers.told(membership);
        }
        if let Some(request) = message.work {
            running.lock().spawn(work::carry_out(client.clone(), request, Arc::clone(&runtime)));
        }
        while running.lock().try_join_next().is_some() {}
    }
}

/// What a call gives, unless it takes too long.
async fn soon<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, SessionError> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SessionError::Silent),
    }
}

impl SessionError {
    /// Whether the manager has refused with `code`.
    fn is(&self, code: Code) -> bool {
        let Self::Status(status) = self else { return false };
        status.metadata().get(METADATA_KEY).is_some_and(|found| found.as_bytes() == code.as_str().as_bytes())
    }

    /// Why the manager is refused, if its state went back: by this node's word, or by its own.
    fn rollback(&self) -> Option<String> {
        match self {
            Self::Older(older) => Some(older.to_string()),
            Self::Status(status) => self.is(Code::RolledBack).then(|| status.message().to_owned()),
            Self::Wire(_) | Self::Ended | Self::Silent | Self::Renewed | Self::Panicked => None,
        }
    }

    /// Where the leader is, if the manager has said so.
    fn leader(&self) -> Option<String> {
        match self {
            Self::Status(status) => Some(status.metadata().get(LEADER_KEY)?.to_str().ok()?.to_owned()),
            Self::Wire(_) | Self::Ended | Self::Silent | Self::Renewed | Self::Older(_) | Self::Panicked => None,
        }
    }
}

/// How long to wait between sessions: twice as long each time, and from the beginning after one that has lasted.
#[derive(Debug, Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// After a session that has lasted so long.
    fn after(&mut self, lasted: Duration) -> Duration {
        let last = self.last.filter(|_| lasted <= LONGEST_PAUSE);
        let next = last.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        *self.last.insert(next)
    }
}

/// Between a half and the whole of the pause.
fn jittered(pause: Duration) -> Duration {
    let random = secretd_proto::id::WorkId::random();
    let share = f64::from(random.as_bytes().first().copied().unwrap_or_default()) / 512.0;
    pause.mul_f64(0.5 + share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew_after_a_session_that_lasted() {
        let mut pauses = Pauses::default();
        let in_vain: Vec<u128> = (0..8).map(|_| pauses.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(in_vain, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pauses.after(Duration::from_mins(1)), FIRST_PAUSE);
        assert_eq!(pauses.after(Duration::from_millis(1)), FIRST_PAUSE * 2);
    }

    #[test]
    fn agents_do_not_come_back_at_once() {
        let pauses: std::collections::BTreeSet<Duration> = (0..100).map(|_| jittered(LONGEST_PAUSE)).collect();
        assert!(pauses.iter().all(|pause| (LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(pause)), "{pauses:?}");
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}
