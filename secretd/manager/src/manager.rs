//! Puts the manager together and watches over its loops.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use secretd_core::node::{Node, NodeDescription};
use secretd_core::seam::clock::Clock;
use secretd_proto::id::{ClusterId, NodeId};
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1::control_server::{Control, ControlServer};
use secretd_proto::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use secretd_store::{Store, View};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{Context, ControlService};
use crate::dispatch::DispatcherService;
use crate::dispatch::broker::Broker;
use crate::dispatch::session::Sessions;
use crate::event::Events;
use crate::reconcile::Reconciler;

/// Why a loop of the manager ended. None may, while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The store is closed.
    #[error("the store is closed")]
    StoreClosed,
    /// A loop panicked.
    #[error("a loop of the manager panicked: {0}")]
    Panicked(String),
}

/// What this node knows of itself: for `cluster init`, and for `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What it says of itself.
    pub description: NodeDescription,
    /// Where it keeps things.
    pub data_dir: String,
    /// Where its sockets are.
    pub run_dir: String,
    /// One line each, for people.
    pub warnings: Vec<String>,
}

/// What a manager needs.
#[derive(Debug)]
pub struct Deps {
    /// The replicated state.
    pub store: Store,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// What this node knows of itself, as it changes.
    pub facts: watch::Receiver<Facts>,
    /// Where events go; other parts of the node may add theirs.
    pub events: Events,
    /// Of secretd.
    pub version: String,
}

/// This node's membership of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which of its nodes this is.
    pub node: NodeId,
}

/// The control plane of one manager. Dropping it ends its loops.
pub struct Manager {
    control: ControlService,
    dispatcher: DispatcherService,
    membership: watch::Receiver<Option<Membership>>,
    loops: JoinSet<Result<Infallible, Ended>>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("membership", &*self.membership.borrow()).finish_non_exhaustive()
    }
}

impl Manager {
    /// Starts the loops. They wait for `cluster init` where there is no cluster yet.
    pub fn start(deps: Deps) -> Self {
        let Deps { store, clock, facts, events, version } = deps;
        let sessions = Sessions::default();
        let broker = Broker::new(sessions.clone());
        let (membership, joined) = watch::channel(membership_of(&store.view()));
        let mut loops = JoinSet::new();
        loops.spawn(Reconciler::new(store.clone(), Arc::clone(&clock)).run());
        loops.spawn(sessions.clone().watch_over(store.clone()));
        loops.spawn(events.clone().follow(&store));
        loops.spawn(follow_membership(store.clone(), membership));
        let dispatcher = DispatcherService::new(store.clone(), sessions, broker.clone());
        let control = ControlService::new(Context { store, clock, events, broker, facts, version });
        Self { control, dispatcher, membership: joined, loops }
    }

    /// The service that sctl speaks to.
    pub fn control(&self) -> ControlServer<impl Control + Clone + use<>> {
        let server = ControlServer::new(self.control.clone());
        server.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH)
    }

    /// The service that agents speak to.
    pub fn dispatcher(&self) -> DispatcherServer<impl Dispatcher + Clone + use<>> {
        let server = DispatcherServer::new(self.dispatcher.clone());
        server.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH)
    }

    /// Which cluster this node is part of: `None` until `cluster init`, after which its agent may begin.
    pub fn membership(&self) -> watch::Receiver<Option<Membership>> {
        self.membership.clone()
    }

    /// Waits until a loop ends, which none does while all is well: the process should then end too.
    pub async fn ended(&mut self) -> Ended {
        match self.loops.join_next().await {
            Some(Ok(Err(ended))) => ended,
            Some(Ok(Ok(never))) => match never {},
            Some(Err(error)) => Ended::Panicked(error.to_string()),
            None => Ended::StoreClosed,
        }
    }
}

/// The node that this manager is: the store has one voter, so it is the node that is a manager.
pub(crate) fn local_node(view: &View) -> Option<&Arc<Node>> {
    view.nodes().find(|node| node.manager)
}

fn membership_of(view: &View) -> Option<Membership> {
    let (cluster, node) = view.cluster().zip(local_node(view))?;
    Some(Membership { cluster: cluster.id, node: node.id })
}

async fn follow_membership(store: Store, membership: watch::Sender<Option<Membership>>) -> Result<Infallible, Ended> {
    loop {
        let (mut view, mut watch) = store.view_and_watch();
        let mut seen = false;
        loop {
            membership.send_if_modified(|known| {
                let now = membership_of(&view);
                std::mem::replace(known, now) != now
            });
            match watch.next().await {
                Some(change) => view = change.view.clone(),
                None => break,
            }
            seen = true;
        }
        if !seen {
            return Err(Ended::StoreClosed);
        }
    }
}
