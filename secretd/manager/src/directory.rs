//! What every node has to know of the cluster: which managers there are, which root certificates count, and what each node
//! is to be. Kept by the leader and told to each session when it changes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_store::{Event, Store, View};
use tokio::sync::watch;

use crate::manager::Ended;

/// The directory of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Addresses of managers, the leader's first.
    managers: Vec<String>,
    /// See [`Cluster::bundle`](secretd_core::node::Cluster::bundle).
    roots: Vec<Vec<u8>>,
    /// The nodes that are to be managers, or take part in raft still.
    manager_nodes: BTreeSet<NodeId>,
}

impl Directory {
    pub(crate) fn of(store: &Store, view: &View) -> Self {
        let mut members = store.replica().map(|replica| replica.members()).unwrap_or_default();
        members.sort_by_key(|status| !status.leader);
        // A demoted manager stays one until raft does without it: its log may be what a majority rests on.
        let wanted = view.nodes().filter(|node| node.manager).map(|node| node.id);
        let manager_nodes = wanted.chain(members.iter().map(|status| status.member.node)).collect();
        Self {
            managers: members.into_iter().map(|status| status.member.address).collect(),
            roots: view.cluster().map(|cluster| cluster.bundle()).unwrap_or_default(),
            manager_nodes,
        }
    }

    /// What `node` is told.
    pub(crate) fn membership(&self, node: NodeId) -> v1::Membership {
        v1::Membership {
            manager: self.manager_nodes.contains(&node),
            managers: self.managers.clone(),
            roots: self.roots.clone(),
        }
    }
}

/// The directory as it changes. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Directories(Arc<watch::Sender<Directory>>);

impl Directories {
    pub(crate) fn new(store: &Store) -> Self {
        Self(Arc::new(watch::Sender::new(Directory::of(store, &store.view()))))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Directory> {
        self.0.subscribe()
    }

    /// Keeps it true, for as long as the store lives.
    pub(crate) async fn follow(self, store: Store) -> Result<Infallible, Ended> {
        let mut leadership = store.replica().map(|replica| replica.watch_leadership());
        loop {
            let (view, mut changes) = store.view_and_watch();
            self.set(Directory::of(&store, &view));
            loop {
                let led = async {
                    match &mut leadership {
                        Some(watch) => watch.next().await,
                        None => std::future::pending().await,
                    }
                };
                // Both are cancel-safe.
                tokio::select! {
                    change = changes.next() => match change {
                        Some(change) => {
                            if change.events.iter().any(concerns) {
                                self.set(Directory::of(&store, &change.view));
                            }
                        }
                        None => break,
                    },
                    now = led => match now {
                        Some(_) => self.set(Directory::of(&store, &store.view())),
                        None => return Err(Ended::StoreClosed),
                    },
                }
            }
            if store.is_closed() {
                return Err(Ended::StoreClosed);
            }
        }
    }

    fn set(&self, directory: Directory) {
        self.0.send_if_modified(|known| {
            let differs = *known != directory;
            *known = directory;
            differs
        });
    }
}

fn concerns(event: &Event) -> bool {
    match event {
        Event::ClusterCreated(_) | Event::ClusterUpdated { .. } | Event::NodeCreated(_) | Event::NodeRemoved(_) => true,
        Event::NodeUpdated { old, new } => old.manager != new.manager,
        Event::SecretCreated(_)
        | Event::SecretUpdated { .. }
        | Event::SecretRemoved(_)
        | Event::ServiceCreated(_)
        | Event::ServiceUpdated { .. }
        | Event::ServiceRemoved(_)
        | Event::TaskCreated(_)
        | Event::TaskUpdated { .. }
        | Event::TaskRemoved(_) => false,
    }
}
