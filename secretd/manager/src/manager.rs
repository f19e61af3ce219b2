//! Puts the manager together and watches over its loops.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use secretd_core::seam::clock::Clock;
use secretd_core::task::TaskState;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1::admission_server::AdmissionServer;
use secretd_proto::v1::control_server::ControlServer;
use secretd_proto::v1::dispatcher_server::DispatcherServer;
use secretd_proto::v1::raft_server::RaftServer;
use secretd_store::{Store, View};
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::admission::AdmissionService;
use crate::api::{Context, ControlService};
use crate::directory::Directories;
use crate::dispatch::DispatcherService;
use crate::dispatch::broker::Broker;
use crate::dispatch::session::Sessions;
use crate::door::Door;
use crate::event::Events;
use crate::lead::lead;
use crate::links::Links;
use crate::raft_service::RaftService;
use crate::revocation::Revocations;

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

/// What a manager needs.
#[derive(Debug)]
pub struct Deps {
    /// The replicated state.
    pub store: Store,
    /// The way to other managers.
    pub links: Arc<dyn Links>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Where events go; other parts of the node may add theirs.
    pub events: Events,
}

/// How much there is in the cluster, for `info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Counts {
    pub managers: usize,
    pub nodes: usize,
    pub services: usize,
    pub secrets: usize,
    pub tasks_running: usize,
}

impl Counts {
    /// How much there is in a state.
    pub fn of(view: &View) -> Self {
        Self {
            managers: view.nodes().filter(|node| node.manager).count(),
            nodes: view.nodes().count(),
            services: view.services().count(),
            secrets: view.secrets().count(),
            tasks_running: view.tasks().filter(|task| task.status.state == TaskState::Running).count(),
        }
    }
}

/// The control plane of one manager. Dropping it ends its loops.
pub struct Manager {
    door: Door,
    store: Store,
    loops: JoinSet<Result<Infallible, Ended>>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Manager {
    /// Starts the loops.
    pub fn start(deps: Deps) -> Self {
        let Deps { store, links, clock, events } = deps;
        let sessions = Sessions::default();
        let broker = Broker::new(sessions.clone());
        let directories = Directories::new(&store);
        let mut loops = JoinSet::new();
        loops.spawn(lead(store.clone(), Arc::clone(&clock), sessions.clone()));
        loops.spawn(directories.clone().follow(store.clone()));
        loops.spawn(events.clone().follow(&store));
        let revocations = Revocations::new(&store);
        loops.spawn(revocations.clone().follow(store.clone()));
        let dispatcher =
            DispatcherService::new(store.clone(), sessions.clone(), broker.clone(), directories, Arc::clone(&clock));
        let context = Context { store: store.clone(), clock: Arc::clone(&clock), events, broker, sessions };
        // Messages of every service may be as long as a secret needs.
        macro_rules! long {
            ($server:expr) => {
                $server.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH)
            };
        }
        let routes = Routes::new(long!(ControlServer::new(ControlService::new(context))))
            .add_service(long!(DispatcherServer::new(dispatcher)))
            .add_service(long!(RaftServer::new(RaftService::new(store.clone()))))
            .add_service(long!(AdmissionServer::new(AdmissionService::new(store.clone(), clock))));
        let door = Door::new(store.clone(), links, routes.prepare(), revocations);
        Self { door, store, loops }
    }

    /// Through which every call comes.
    pub fn door(&self) -> Door {
        self.door.clone()
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
