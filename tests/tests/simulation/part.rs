//! What runs on a node beside its store: the real manager, or the real agent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use secretd_agent::{Agent, Deps as AgentDeps, Managers};
use secretd_ca::{CertificateDer, Fingerprint, NodeRole, RootDigest};
use secretd_core::fake::runtime::FakeRuntime;
use secretd_core::node::NodeDescription;
use secretd_core::seam::clock::Clock;
use secretd_core::seam::secret_mount::SecretMount;
use secretd_core::time::Timestamp;
use secretd_manager::event::Events;
use secretd_manager::{Caller, Deps, Links, Manager, Shown, Unreached};
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_proto::v1::control_server::ControlServer;
use secretd_proto::v1::dispatcher_server::DispatcherServer;
use secretd_store::{Member, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};

use crate::fixture::ROOT;
use crate::mount::Mount;
use crate::net::{node_of, node_of_address};
use crate::operator::OUTSIDE;
use crate::wire::{Arrived, Wires};

/// What a node is beside a place for a store.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A store and nothing else.
    Store,
    /// A manager of a cluster that has so many.
    Manager { wires: Wires, managers: usize },
    /// A worker, with its containers and their secrets.
    Worker { wires: Wires, managers: usize, containers: FakeRuntime, mount: Mount },
}

impl Part {
    /// A worker on which nothing runs yet.
    pub(crate) fn worker(wires: &Wires, managers: usize) -> Self {
        Self::Worker { wires: wires.clone(), managers, containers: FakeRuntime::default(), mount: Mount::new() }
    }
}

/// The id of the node with this number.
pub(crate) fn node_id(index: usize) -> NodeId {
    NodeId::from_random([u8::try_from(index).unwrap(); 16])
}

#[derive(Debug)]
struct ToManagers {
    wires: Wires,
    own: usize,
}

impl Links for ToManagers {
    fn channel(&self, to: &Member) -> Channel {
        self.wires.channel(self.own, node_of(to).unwrap_or(usize::MAX), Unreached::from)
    }
}

/// Starts the manager on an open store.
pub(crate) fn manage(store: Store, own: usize, wires: &Wires, managers: usize, clock: Arc<dyn Clock>) -> Manager {
    let links = Arc::new(ToManagers { wires: wires.clone(), own });
    let manager = Manager::start(Deps { store, links, clock, events: Events::new() });
    tokio::spawn(receive(manager.door(), wires.listen(own), managers));
    manager
}

/// Serves those who connect. Who they are is known here without certificates.
async fn receive(door: secretd_manager::door::Door, mut arrived: mpsc::UnboundedReceiver<Arrived>, managers: usize) {
    while let Some(Arrived { from, end }) = arrived.recv().await {
        let role = if from <= managers { NodeRole::Manager } else { NodeRole::Worker };
        let caller = match from {
            OUTSIDE => Caller::Local { uid: 0, pid: None },
            _ => Caller::Node { id: node_id(from), role, shown: shown(from), expired: false },
        };
        let door = door.for_caller(caller);
        let router = Server::builder()
            .add_service(door.named::<ControlServer<()>>())
            .add_service(door.named::<DispatcherServer<()>>());
        tokio::spawn(async move {
            let connection = tokio_stream::once(Ok::<_, std::io::Error>(end));
            let _ = router.serve_with_incoming(connection).await; // it broke: the other end knows
        });
    }
}

/// A certificate of the cluster's root, the same for ever.
fn shown(node: usize) -> Shown {
    Shown {
        fingerprint: Fingerprint::from_bytes([u8::try_from(node).unwrap(); 32]),
        issuer: RootDigest::of(&CertificateDer::from(&ROOT[..])),
        not_after: Timestamp(i64::MAX),
        is_ahead: false,
    }
}

#[derive(Debug)]
struct FromWorker {
    wires: Wires,
    own: usize,
    managers: usize,
    turn: AtomicUsize,
    certificates: watch::Sender<u64>,
    seen: Mutex<v1::StoredSeen>,
}

impl Managers for FromWorker {
    fn channel(&self, leader: Option<&str>) -> Channel {
        let next = || 1 + self.turn.fetch_add(1, Ordering::Relaxed) % self.managers;
        let to = leader.and_then(node_of_address).unwrap_or_else(next);
        self.wires.channel(self.own, to, std::convert::identity)
    }

    fn led_anew(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    fn told(&self, _: v1::Membership) {}

    fn certificates(&self) -> watch::Receiver<u64> {
        self.certificates.subscribe()
    }

    fn outdated(&self) {}

    fn recall(&self) -> v1::StoredSeen {
        self.seen.lock().clone()
    }

    fn keep(&self, seen: &v1::StoredSeen) {
        self.seen.lock().clone_from(seen);
    }

    fn doubt(&self, why: &str) {
        panic!("nothing that was acknowledged goes back: {why}");
    }
}

/// Runs the agent of a worker.
pub(crate) async fn work(
    own: usize,
    wires: Wires,
    managers: usize,
    (containers, mount): (FakeRuntime, Mount),
    clock: Arc<dyn Clock>,
) -> String {
    let secrets = mount.status().borrow().clone();
    let description = NodeDescription {
        hostname: format!("worker-{own}"),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        nano_cpus: 4_000_000_000,
        memory_bytes: 8 << 30,
        secrets,
        ..NodeDescription::default()
    };
    let (_description, described) = watch::channel(description);
    let deps = AgentDeps {
        node: node_id(own),
        managers: Arc::new(FromWorker {
            wires,
            own,
            managers,
            turn: AtomicUsize::new(own),
            certificates: watch::Sender::new(1),
            seen: Mutex::default(),
        }),
        description: described,
        runtime: Arc::new(containers),
        secret_mount: Arc::new(mount),
        clock,
        connected: watch::Sender::new(false),
    };
    match Agent::new(deps).await {
        Ok(agent) => agent.run(CancellationToken::new()).await,
        Err(error) => return format!("the agent does not begin: {error}"),
    }
    "the agent has ended".to_owned()
}
