//! The agent's way to the managers: to the one that leads, as far as this node knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::BoxFuture;
use parking_lot::RwLock;
use secretd_agent::Managers;
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_store::Store;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use super::links::{Mesh, Purpose};
use super::memory::Memory;

/// This node's own manager.
#[derive(Debug, Clone)]
pub(crate) struct OwnManager {
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) store: Store,
    pub(crate) pipe: Channel,
}

/// What the agent hears of this node.
#[derive(Debug)]
pub(crate) enum News {
    /// What a manager says.
    Told(v1::Membership),
    /// Managers do not take its certificate any more.
    Outdated,
    /// Why a manager is refused: its state is older than what this node has seen.
    Doubt(String),
}

/// Where managers are. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct KnownManagers {
    mesh: Mesh,
    addresses: Arc<RwLock<Vec<String>>>,
    own: Arc<RwLock<Option<OwnManager>>>,
    /// Which address is next.
    turn: Arc<AtomicUsize>,
    /// In which term a channel was asked for last.
    term: Arc<AtomicU64>,
    news: mpsc::UnboundedSender<News>,
    memory: Memory,
}

impl KnownManagers {
    /// `news` are told what managers tell this node, and that they do not believe it any more.
    pub(crate) fn new(mesh: Mesh, addresses: Vec<String>, news: mpsc::UnboundedSender<News>, memory: Memory) -> Self {
        // Nodes begin at different managers.
        let start = usize::from(NodeId::random().as_bytes()[0]);
        let turn = Arc::new(AtomicUsize::new(start));
        Self {
            mesh,
            addresses: Arc::new(RwLock::new(addresses)),
            own: Arc::default(),
            turn,
            term: Arc::default(),
            news,
            memory,
        }
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<String>) {
        *self.addresses.write() = addresses;
    }

    /// A channel to a manager that is not this node's own: the one at `leader`, else another one each time.
    pub(crate) fn other(&self, leader: Option<&str>) -> Channel {
        let address = leader.map_or_else(|| self.next(), str::to_owned);
        self.mesh.to(&address, None, Purpose::Calls)
    }

    fn next(&self) -> String {
        let addresses = self.addresses.read();
        let own = self.own.read().as_ref().map(|own| own.address.clone());
        let others: Vec<&String> = addresses.iter().filter(|address| Some(*address) != own.as_ref()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        others.get(turn % others.len().max(1)).copied().or_else(|| addresses.first()).cloned().unwrap_or_default()
    }

    /// What this node has seen of the cluster, on the disk.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    /// This node has a manager of its own, or none any more.
    pub(crate) fn set_own(&self, own: Option<OwnManager>) {
        *self.own.write() = own;
    }
}

impl Managers for KnownManagers {
    fn channel(&self, leader: Option<&str>) -> Channel {
        let Some(own) = self.own.read().clone() else { return self.other(leader) };
        let leadership = own.store.replica().map(secretd_store::Replica::leadership).unwrap_or_default();
        self.term.store(leadership.term, Ordering::Relaxed);
        let known = || leadership.leader;
        match leader {
            Some(address) if address == own.address => own.pipe,
            Some(address) => self.other(Some(address)),
            None => match known() {
                Some(leader) if leader.node == own.node => own.pipe,
                Some(leader) => self.other(Some(&leader.address)),
                // Nobody leads yet, or this manager was taken out and is not told: others know.
                None => self.other(None),
            },
        }
    }

    fn led_anew(&self) -> BoxFuture<'_, ()> {
        let own = self.own.read().clone();
        let replica = own.and_then(|own| own.store.replica().cloned());
        Box::pin(async move {
            let Some(replica) = replica else { return std::future::pending().await };
            let mut leadership = replica.watch_leadership();
            while let Some(now) = leadership.next().await {
                if now.leader.is_some() && now.term != self.term.load(Ordering::Relaxed) {
                    return;
                }
            }
            std::future::pending().await
        })
    }

    fn told(&self, membership: v1::Membership) {
        let _ = self.news.send(News::Told(membership)); // nobody listens while the node leaves
    }

    fn certificates(&self) -> watch::Receiver<u64> {
        self.mesh.certificates()
    }

    fn outdated(&self) {
        let _ = self.news.send(News::Outdated); // as above
    }

    fn recall(&self) -> v1::StoredSeen {
        self.memory.load()
    }

    fn keep(&self, seen: &v1::StoredSeen) {
        if let Err(error) = self.memory.keep(seen) {
            tracing::warn!(error = format!("{error:#}"), "what was seen of the cluster cannot be kept");
        }
    }

    fn doubt(&self, why: &str) {
        let _ = self.news.send(News::Doubt(why.to_owned()));
    }
}
