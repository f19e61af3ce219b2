//! The manager of this node, as long as it is one: its store, its control plane, its listener.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use secretd_core::seam::clock::Clock;
use secretd_manager::event::Events;
use secretd_manager::{Deps, Manager};
use secretd_proto::code::{LEADER_KEY, METADATA_KEY};
use secretd_proto::v1;
use secretd_proto::v1::raft_client::RaftClient;
use secretd_sealing::at_rest::Sealer;
use secretd_store::{RolledBack, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::authority::{self, Known};
use super::credentials::Present;
use super::keys::watch_autolock;
use super::links::Mesh;
use super::managers::{KnownManagers, OwnManager};
use super::{listener, pipe};

/// A new member is given the state before it is answered, which takes longer than any other call.
const JOIN: Duration = Duration::from_secs(70);
/// Between attempts to become a member of raft.
const RETRY: Duration = Duration::from_millis(500);

/// What a manager consists of.
pub(crate) struct ManagerPart {
    pub(crate) store: Store,
    pub(crate) manager: Manager,
    pub(crate) own: OwnManager,
    pub(crate) joined: watch::Receiver<Joined>,
    /// Autolock, and the number of the unlock key.
    pub(crate) locks: watch::Receiver<(bool, u64)>,
    /// The authority, as the state has it.
    pub(crate) authority: watch::Receiver<Option<Known>>,
    /// Told when other managers have found out that the store went back.
    pub(crate) rolled_back: Option<watch::Receiver<Option<RolledBack>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    joining: Option<AbortHandle>,
}

/// Whether a manager takes part in raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Joined {
    Yes,
    /// With what came of the last attempt.
    NotYet(String),
}

/// What it is made from.
pub(crate) struct Making<'a> {
    pub(crate) directory: &'a Utf8Path,
    pub(crate) sealer: Sealer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) mesh: Mesh,
    pub(crate) present: Present,
    pub(crate) address: String,
}

impl ManagerPart {
    /// Opens the store and serves on `listener`.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub(crate) async fn start(making: Making<'_>, listener: TcpListener) -> anyhow::Result<Self> {
        let Making { directory, sealer, clock, events, mesh, present, address } = making;
        let store = Store::open(directory, sealer, Arc::clone(&clock), Arc::new(mesh.clone())).await?;
        let deps = Deps { store: store.clone(), links: Arc::new(mesh), clock: Arc::clone(&clock), events };
        let manager = Manager::start(deps);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (pipe, serving) = pipe::open(&manager.door(), present.clone(), stop.clone());
        tasks.spawn(serving);
        let node = present.get().node;
        tasks.spawn(listener::serve(listener, present, manager.door(), clock, stop.clone()));
        let own = OwnManager { node, address, store: store.clone(), pipe };
        let (_, joined) = watch::channel(Joined::Yes);
        let (told, locks) = watch::channel((false, 0));
        tasks.spawn(watch_autolock(store.clone(), told));
        let (told, authority) = watch::channel(None);
        tasks.spawn(authority::watch(store.clone(), told));
        let rolled_back = store.replica().map(secretd_store::Replica::rolled_back);
        Ok(Self { store, manager, own, joined, locks, authority, rolled_back, stop, tasks, joining: None })
    }

    /// Whether raft counts this manager among its members.
    pub(crate) fn is_member(&self) -> bool {
        let Some(replica) = self.store.replica() else { return true };
        replica.members().iter().any(|member| member.id == replica.member_id())
    }

    /// Whether it takes part, as far as this manager knows.
    pub(crate) fn has_joined(&self) -> bool {
        *self.joined.borrow() == Joined::Yes
    }

    /// Asks the leader to make this manager a member, until it has.
    pub(crate) fn join(&mut self, managers: KnownManagers) {
        let Some(member) = self.store.replica().map(secretd_store::Replica::member_id) else { return };
        let (sender, joined) = watch::channel(Joined::NotYet(String::new()));
        self.joined = joined;
        let request = v1::JoinRaftRequest { member, address: self.own.address.clone() };
        self.joining = Some(self.tasks.spawn(async move {
            let mut leader: Option<String> = None;
            loop {
                match join_raft(managers.other(leader.as_deref()), request.clone()).await {
                    Ok(()) => {
                        sender.send_replace(Joined::Yes);
                        return;
                    }
                    Err(status) => {
                        tracing::info!(reason = status.message(), "this manager does not take part yet");
                        let named = status.metadata().get(LEADER_KEY).and_then(|leader| leader.to_str().ok());
                        leader = named.map(str::to_owned);
                        if leader.is_none() {
                            sender.send_replace(Joined::NotYet(hindrance(&status)));
                        }
                    }
                }
                tokio::time::sleep(RETRY).await;
            }
        }));
    }

    /// Ends it. Its state stays on the disk.
    pub(crate) async fn stop(mut self) {
        if let Some(joining) = self.joining.take() {
            joining.abort();
        }
        self.stop.cancel();
        drop(self.manager);
        self.tasks.shutdown().await;
        self.store.shutdown().await;
    }
}

/// What keeps a manager from taking part, for people: an answer, or that there was none.
fn hindrance(status: &tonic::Status) -> String {
    let message = status.message();
    match status.metadata().contains_key(METADATA_KEY) {
        true => message.to_owned(),
        false => {
            let reason = message.split(" (os error").next().unwrap_or_default().to_lowercase();
            format!(
                "no other manager is reached: {reason}: start the others, or leave with \"sctl cluster leave --force\" where they go on without this one"
            )
        }
    }
}

async fn join_raft(channel: Channel, request: v1::JoinRaftRequest) -> Result<(), tonic::Status> {
    let asked = async move { RaftClient::new(channel).join_raft(request).await };
    match timeout(JOIN, asked).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => Err(tonic::Status::deadline_exceeded(format!("no answer in {JOIN:?}"))),
    }
}
