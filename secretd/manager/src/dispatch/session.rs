//! Which nodes are connected: one session for each, a new one ends the old.
//!
//! A node that goes quiet keeps its session until its heartbeats are overdue, so that an agent may come back without
//! anything happening to its tasks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secretd_core::node::{ClusterSpec, NodeState};
use secretd_proto::id::{NodeId, SessionId};
use secretd_proto::v1;
use secretd_store::{Op, ProposeError, Store};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::manager::Ended;

/// A node is down after so many missed heartbeats.
const MISSED: u32 = 3;
/// Longer for the nodes that this manager has never heard of: they have to find it first.
const GRACE_AT_START: u32 = 2 * MISSED;
/// Between attempts to record that a node is down, while the store does not take it.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Work that a node has not taken yet. When it is full, the node counts as not connected.
const WORK_QUEUE: usize = 64;

/// The sessions of all nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    registry: Arc<Mutex<Registry>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Registry {
    nodes: HashMap<NodeId, Entry>,
    /// Whose each session is: every heartbeat asks.
    by_session: HashMap<SessionId, NodeId>,
}

impl Registry {
    /// The entry of a session's node, while it is the node's session still.
    fn of(&mut self, session: SessionId) -> Option<(NodeId, &mut Entry)> {
        let node = *self.by_session.get(&session)?;
        Some((node, self.nodes.get_mut(&node)?))
    }

    fn insert(&mut self, node: NodeId, entry: Entry) -> Option<Session> {
        if let Some(session) = &entry.session {
            self.by_session.insert(session.id, node);
        }
        self.nodes.insert(node, entry).and_then(|entry| self.forget(entry))
    }

    fn remove(&mut self, node: NodeId) -> Option<Session> {
        self.nodes.remove(&node).and_then(|entry| self.forget(entry))
    }

    fn forget(&mut self, entry: Entry) -> Option<Session> {
        let session = entry.session?;
        self.by_session.remove(&session.id);
        Some(session)
    }
}

#[derive(Debug)]
struct Entry {
    deadline: Instant,
    heartbeat: Duration,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// Boxed: the channel has room for many from the start, and most nodes are never asked.
    work: mpsc::Sender<Box<v1::WorkRequest>>,
    ended: CancellationToken,
}

/// A new session, as its stream needs it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) id: SessionId,
    pub(crate) work: mpsc::Receiver<Box<v1::WorkRequest>>,
    pub(crate) ended: CancellationToken,
}

/// The node has no session, or does not take work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotConnected;

/// What the manager that leads knows of a node whose heartbeats are not overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// It has a session.
    Open,
    /// Its session's stream has ended, and it has not come back yet.
    Lost,
    /// It has not come since this manager leads.
    Awaited,
}

impl Sessions {
    /// Begins a session and ends the node's last one.
    pub(crate) fn open(&self, node: NodeId, heartbeat: Duration) -> Opened {
        let (tx, work) = mpsc::channel(WORK_QUEUE);
        let (id, ended) = (SessionId::random(), CancellationToken::new());
        let session = Session { id, work: tx, ended: ended.clone() };
        let entry = Entry { deadline: Instant::now() + heartbeat * MISSED, heartbeat, session: Some(session) };
        let old = self.registry.lock().insert(node, entry);
        if let Some(old) = old {
            old.ended.cancel();
        }
        self.changed.notify_one();
        Opened { id, work, ended }
    }

    /// Ends a session that could not begin. Its node is waited for, until its heartbeats are overdue.
    pub(crate) fn close(&self, session: SessionId) {
        let mut registry = self.registry.lock();
        if let Some((node, &mut Entry { deadline, heartbeat, .. })) = registry.of(session) {
            registry.insert(node, Entry { deadline, heartbeat, session: None });
        }
    }

    /// Ends a session: its node has said good-bye, and is recorded as down.
    pub(crate) fn end(&self, session: SessionId) {
        let mut registry = self.registry.lock();
        if let Some((node, _)) = registry.of(session)
            && let Some(session) = registry.remove(node)
        {
            session.ended.cancel();
        }
    }

    /// Puts off the time at which the session's node counts as down. `None` when there is no such session (any more).
    pub(crate) fn beat(&self, session: SessionId) -> Option<NodeId> {
        let mut registry = self.registry.lock();
        let (node, entry) = registry.of(session)?;
        entry.deadline = Instant::now() + entry.heartbeat * MISSED;
        Some(node)
    }

    /// Whose session it is, and what tells that it ended.
    pub(crate) fn find(&self, session: SessionId) -> Option<(NodeId, CancellationToken)> {
        let mut registry = self.registry.lock();
        let (node, entry) = registry.of(session)?;
        entry.session.as_ref().map(|session| (node, session.ended.clone()))
    }

    /// Asks a node for work.
    pub(crate) fn ask(&self, node: NodeId, work: v1::WorkRequest) -> Result<(), NotConnected> {
        let registry = self.registry.lock();
        let session = registry.nodes.get(&node).and_then(|entry| entry.session.as_ref()).ok_or(NotConnected)?;
        session.work.try_send(Box::new(work)).map_err(|_| NotConnected)
    }

    /// Gives a node time to open a session before it counts as down.
    fn expect(&self, node: NodeId, heartbeat: Duration) {
        let entry = Entry { deadline: Instant::now() + heartbeat * GRACE_AT_START, heartbeat, session: None };
        self.registry.lock().nodes.entry(node).or_insert(entry);
    }

    /// Ends every session: this manager leads no more.
    pub(crate) fn end_all(&self) {
        let mut registry = self.registry.lock();
        registry.by_session.clear();
        for session in registry.nodes.drain().filter_map(|(_, entry)| entry.session) {
            session.ended.cancel();
        }
    }

    /// What is known of a node's connection; nothing where its heartbeats are overdue, and on a manager that does not lead.
    pub(crate) fn connection(&self, node: NodeId) -> Option<Connection> {
        let registry = self.registry.lock();
        let entry = registry.nodes.get(&node)?;
        Some(match &entry.session {
            // Whoever reads the work is the stream: it is dropped when the connection ends.
            Some(session) if session.work.is_closed() => Connection::Lost,
            Some(_) => Connection::Open,
            None => Connection::Awaited,
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.registry.lock().nodes.values().map(|entry| entry.deadline).min()
    }

    /// Takes out the nodes whose time is over.
    fn take_overdue(&self, now: Instant) -> Vec<NodeId> {
        let mut registry = self.registry.lock();
        let overdue: Vec<NodeId> =
            registry.nodes.iter().filter(|(_, entry)| entry.deadline <= now).map(|(node, _)| *node).collect();
        for node in &overdue {
            if let Some(session) = registry.remove(*node) {
                session.ended.cancel();
            }
        }
        overdue
    }

    fn is_known(&self, node: NodeId) -> bool {
        self.registry.lock().nodes.contains_key(&node)
    }

    /// Records the nodes that go quiet, for as long as the store lives.
    pub(crate) async fn watch_over(self, store: Store) -> Result<Infallible, Ended> {
        let view = store.view();
        let heartbeat = view.cluster().map_or(ClusterSpec::HEARTBEAT, |cluster| cluster.spec.heartbeat);
        for node in view.nodes().filter(|node| node.state != NodeState::Down) {
            self.expect(node.id, heartbeat);
        }
        let mut down: Vec<NodeId> = Vec::new();
        loop {
            let deadline = self.next_deadline();
            let retry = (!down.is_empty()).then(|| Instant::now() + STORE_RETRY);
            let until = [deadline, retry].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = sleep_until(until) => {}
            }
            down.extend(self.take_overdue(Instant::now()));
            down.retain(|node| !self.is_known(*node));
            let mut still = Vec::new();
            for node in down {
                let recorded = match record_down(&store, node).await {
                    // It may have come back meanwhile, and have seen that it was still ready.
                    Ok(()) if self.is_known(node) => record_ready(&store, node).await,
                    recorded => recorded,
                };
                if let Err(error) = recorded {
                    tracing::warn!(node = %node, error = &error as &dyn std::error::Error, "cannot record a lost node");
                    still.push(node);
                }
            }
            down = still;
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn record_ready(store: &Store, node: NodeId) -> Result<(), ProposeError> {
    record(store, Op::SetNodeStatus { id: node, state: NodeState::Ready, message: String::new() }).await
}

async fn record_down(store: &Store, node: NodeId) -> Result<(), ProposeError> {
    tracing::warn!(node = %node, "the node has missed its heartbeats");
    let message = "heartbeat failure".to_owned();
    record(store, Op::SetNodeStatus { id: node, state: NodeState::Down, message }).await
}

async fn record(store: &Store, op: Op) -> Result<(), ProposeError> {
    match store.propose(vec![op]).await {
        Ok(_) | Err(ProposeError::Conflict(_)) => Ok(()), // a node that is gone needs no record
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn node_whose_session_could_not_begin_is_watched_over_still() {
        let (sessions, node, heartbeat) = (Sessions::default(), NodeId::random(), Duration::from_secs(1));
        let first = sessions.open(node, heartbeat);

        // The node comes again, and what it says cannot be recorded.
        let again = sessions.open(node, heartbeat);
        sessions.close(again.id);

        assert!(first.ended.is_cancelled() && sessions.find(again.id).is_none());
        assert_eq!(sessions.connection(node), Some(Connection::Awaited));
        assert_eq!(sessions.take_overdue(Instant::now() + heartbeat * MISSED), [node]);
    }
}
