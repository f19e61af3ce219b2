//! The one place that changes what the node is: one change after another, whoever asks for it.

use std::io;
use std::sync::Arc;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use secretd_core::seam::clock::SystemClock;
use secretd_manager::event::Events;
use secretd_manager::refusal::Refusal;
use secretd_proto::v1;
use secretd_sealing::kek::KekStatus;
use secretd_sealing::node_keys::Opened;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{OpenError, RolledBack};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::credentials::{Own, Present};
use super::data_key::{LOOK, Resealing, finished};
use super::due::Due;
use super::founding::cannot_listen;
use super::keys::Keys;
use super::links::Mesh;
use super::listener;
use super::manager_part::{Joined, Making, ManagerPart};
use super::managers::{KnownManagers, News};
use super::membership::{Membership, MembershipFile, Stage, sync};
use super::memory::Memory;
use super::part::{Part, run_agent};
use super::refusals;
use super::restoring::Restoring;
use super::slot::ControlSlot;
use super::status::{Phase, Status};
use crate::node::Node;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What operators ask of the node.
#[derive(Debug)]
pub(crate) enum Command {
    Init(v1::InitClusterRequest, Reply<v1::InitClusterResponse>),
    Join(v1::JoinClusterRequest, Reply<Membership>),
    Restore(Restoring, Reply<v1::RestoreClusterResponse>),
    Leave(v1::LeaveClusterRequest, Reply<String>),
    Unlock(KeyBytes, Reply<()>),
    Rekey(v1::RekeyRequest, Reply<KekStatus>),
}

/// What happens without being asked for.
enum Happened {
    Command(Command),
    News(News),
    /// The agent has its first session.
    Session,
    /// The store of this node's manager went back.
    RolledBack(RolledBack),
    Joined(Joined),
    /// Autolock, or the unlock key.
    Autolock,
    /// The state of a manager says something else of the authority.
    Authority,
    RenewalDue,
    /// Records are sealed under the new data key.
    Resealed(anyhow::Result<u64>),
    /// It is time to look after the data key.
    Look,
    Failed(anyhow::Error),
}

/// What the node is made of, and what it is at the moment.
pub(crate) struct Lifecycle {
    pub(super) node: Node,
    pub(super) keys: Keys,
    pub(super) data: Utf8PathBuf,
    pub(super) events: Events,
    pub(super) slot: ControlSlot,
    pub(super) status: watch::Sender<Status>,
    pub(super) part: Option<Part>,
    pub(super) resealing: Option<Resealing>,
    /// Why the node, which is part of a cluster, could not go on in it. Nothing else may be made of it then.
    pub(super) stuck: Option<Refusal>,
    /// Why not everything is sealed anew, as it was told.
    pub(super) not_resealed: Option<String>,
    commands: mpsc::Receiver<Command>,
}

impl Lifecycle {
    /// A node that is what it was when it ended.
    ///
    /// # Errors
    /// When what it remembers cannot be read, or the store cannot be opened.
    pub(crate) async fn start(
        node: Node,
        (opened, data): (Opened, &Utf8Path),
        events: Events,
        slot: ControlSlot,
    ) -> anyhow::Result<(Self, mpsc::Sender<Command>, watch::Receiver<Status>)> {
        let (sender, commands) = mpsc::channel(8);
        let (status, watched) = watch::channel(Status::inactive());
        let keys = Keys::new(opened);
        let mut this = Self {
            node,
            keys,
            data: data.to_owned(),
            events,
            slot,
            status,
            part: None,
            resealing: None,
            stuck: None,
            not_resealed: None,
            commands,
        };
        this.go_on().await?;
        this.tell_phase();
        Ok((this, sender, watched))
    }

    /// Goes on as what the node was, unless its data is locked.
    pub(super) async fn go_on(&mut self) -> anyhow::Result<()> {
        let Keys::Open(_) = &self.keys else {
            self.slot.close(refusals::locked());
            return Ok(());
        };
        self.wipe("restoring")?; // a backup that was not read to its end
        match self.file()?.load()? {
            Some(membership) if membership.stage == Stage::Member => self.resume(membership).await,
            Some(_) => self.forget(), // it was founding or leaving
            None => self.check_no_store(),
        }
    }

    /// What the node was could not be gone on with: it is that still, and must not be thrown away for something new.
    pub(super) fn get_stuck(&mut self, error: &anyhow::Error) -> Refusal {
        let refusal = refusals::stuck(error);
        tracing::error!("{}", refusal.message);
        self.slot.close(refusal.clone());
        self.stuck = Some(refusal.clone());
        refusal
    }

    /// That nothing of a cluster is on the disk.
    ///
    /// # Errors
    /// With what is there, or why it cannot be read.
    pub(super) fn check_nothing_is_left(&self) -> anyhow::Result<()> {
        match self.file()?.load()? {
            Some(membership) if membership.stage == Stage::Member => {
                anyhow::bail!("{} says that it is", self.data.join("membership"))
            }
            Some(_) => Ok(()), // it was founding or leaving
            None => self.check_no_store(),
        }
    }

    pub(super) fn file(&self) -> anyhow::Result<MembershipFile> {
        Ok(MembershipFile::new(&self.data, self.keys.open()?.sealer()))
    }

    /// Goes on for ever, unless something fails that the node cannot do without.
    pub(crate) async fn run(&mut self) -> anyhow::Error {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let happened = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => Happened::Command(command),
                    None => return anyhow::anyhow!("the control socket has ended"),
                },
                happened = next(&mut self.part) => happened,
                outcome = finished(&mut self.resealing) => Happened::Resealed(outcome),
                _ = look.tick() => Happened::Look,
            };
            match happened {
                Happened::Command(Command::Init(request, reply)) => {
                    let _ = reply.send(self.init(request).await); // who asked may have gone
                }
                Happened::Command(Command::Join(request, reply)) => {
                    let _ = reply.send(self.join(request).await);
                }
                Happened::Command(Command::Restore(restoring, reply)) => {
                    let _ = reply.send(self.restore(restoring).await);
                }
                Happened::Command(Command::Leave(request, reply)) => {
                    let _ = reply.send(self.leave(request).await);
                }
                Happened::Command(Command::Unlock(key, reply)) => {
                    let _ = reply.send(self.unlock(key).await);
                }
                Happened::Command(Command::Rekey(request, reply)) => {
                    let _ = reply.send(self.rekey(request).await);
                }
                Happened::Autolock => self.follow_autolock().await,
                Happened::Authority => self.follow_authority().await,
                Happened::News(News::Told(membership)) => self.learn(membership).await,
                // By the leader alone: this node's own state may be the one that is behind.
                Happened::News(News::Outdated) => self.ask_for_role().await,
                Happened::News(News::Doubt(why)) => self.doubt(why),
                Happened::RolledBack(fault) => self.take_no_part(fault).await,
                Happened::Session => {} // what is told of the phase is another now
                Happened::Joined(Joined::Yes) => self.take_part(),
                Happened::Joined(Joined::NotYet(reason)) => self.status.send_modify(|status| status.error = reason),
                Happened::RenewalDue => self.renew().await,
                Happened::Resealed(outcome) => self.resealed(outcome).await,
                Happened::Look => self.look_after_data_key().await,
                Happened::Failed(error) => return error,
            }
            self.tell_phase();
        }
    }

    /// Ends what runs. Containers go on.
    pub(crate) async fn stop(mut self) {
        if let Some(part) = self.part.take() {
            part.end().await;
        }
    }

    /// Whether the node is part of a cluster.
    pub(crate) fn is_member(&self) -> bool {
        self.part.is_some()
    }

    async fn resume(&mut self, membership: Membership) -> anyhow::Result<()> {
        let listener = match membership.manager {
            true => Some(self.bind(&membership).await?),
            false => {
                self.wipe_store()?; // a demotion that was interrupted
                None
            }
        };
        self.begin(membership, listener).await
    }

    pub(super) async fn bind(&self, membership: &Membership) -> anyhow::Result<TcpListener> {
        let listen = membership.listen;
        listener::bind(listen).await.map_err(|error| {
            anyhow::anyhow!(
                "{}: stop what listens there, or give the address back to this system",
                cannot_listen(listen, &error)
            )
        })
    }

    /// Begins to be a member: with a manager when there is a listener for one.
    pub(super) async fn begin(&mut self, membership: Membership, listener: Option<TcpListener>) -> anyhow::Result<()> {
        let present = Present::new(Own::of(&membership, &[], &self.node.clock)?);
        let mesh = Mesh::new(present.clone());
        let (told, news) = mpsc::unbounded_channel();
        let memory = Memory::new(&self.data, self.keys.open()?.sealer());
        let managers = KnownManagers::new(mesh.clone(), membership.managers.clone(), told, memory);
        self.node.fault.send_replace(String::new());
        self.slot.close(refusals::worker());
        // Before the agent: a store that is refused is all that there is to say.
        let made = match listener {
            Some(listener) => self.make_manager(&membership, (&mesh, &present), listener).await.map(Some),
            None => Ok(None),
        };
        let (manager, fault) = match made {
            Ok(manager) => (manager, None),
            Err(error) => match error.downcast() {
                Ok(OpenError::RolledBack(fault)) => {
                    self.tell_fault(&fault);
                    (None, Some(fault))
                }
                other => {
                    self.slot.close(refusals::not_in_cluster());
                    return Err(other.map_or_else(|error| error, Into::into));
                }
            },
        };
        let (sender, connected) = watch::channel(false);
        let leave = CancellationToken::new();
        let due = Due::of(present.get().validity);
        let agent =
            tokio::spawn(run_agent(self.node.clone(), membership.node, managers.clone(), sender, leave.clone()));
        self.part = Some(Part {
            membership,
            present,
            mesh,
            managers,
            manager,
            leave,
            agent,
            due,
            fault,
            doubt: None,
            news,
            connected,
        });
        self.renew_after_absence();
        self.begin_to_take_part();
        self.tell_phase();
        Ok(())
    }

    async fn make_manager(
        &self,
        membership: &Membership,
        (mesh, present): (&Mesh, &Present),
        listener: TcpListener,
    ) -> anyhow::Result<ManagerPart> {
        let making = Making {
            directory: &self.data.join("store"),
            sealer: self.keys.open()?.sealer(),
            clock: Arc::clone(&self.node.clock),
            events: self.events.clone(),
            mesh: mesh.clone(),
            present: present.clone(),
            address: membership.address.to_string(),
        };
        ManagerPart::start(making, listener).await
    }

    /// A manager that is no member of raft yet asks to be one.
    fn begin_to_take_part(&mut self) {
        let Some(part) = &mut self.part else { return };
        let Some(manager) = &mut part.manager else { return };
        // The founder's store is empty still: the founding makes it a member.
        if manager.is_member() || part.membership.stage == Stage::Founding {
            self.take_part();
        } else {
            self.slot.close(refusals::preparing());
            manager.join(part.managers.clone());
        }
    }

    /// The manager takes part: it answers callers, and its own agent may come to it.
    pub(super) fn take_part(&mut self) {
        let Some(part) = &self.part else { return };
        let Some(manager) = &part.manager else { return };
        part.managers.set_own(Some(manager.own.clone()));
        self.slot.open(manager.manager.door());
    }

    /// What a manager says of the cluster, and of what this node is to be.
    async fn learn(&mut self, told: v1::Membership) {
        let Some(part) = &mut self.part else { return };
        part.doubt = None; // the node believes who tells it something
        let had_vote = part.had_vote();
        let known = &mut part.membership;
        let mut changed = false;
        if !told.managers.is_empty() && told.managers != known.managers {
            part.managers.set_addresses(told.managers.clone());
            known.managers = told.managers;
            changed = true;
        }
        let manager = known.manager;
        let is_left_out = !known.managers.is_empty() && !known.managers.contains(&known.address.to_string());
        if changed && let Err(error) = save(&self.keys, &self.data, known) {
            tracing::error!(error = &*error, "what managers there are cannot be saved");
        }
        // A new role, or a new root, comes with a new certificate.
        let is_taken_out = is_left_out && had_vote;
        if self.adopt(told.roots) || told.manager != manager || is_taken_out {
            self.ask_for_role().await;
        }
    }

    /// Becomes what the renewed membership says. A manager that raft has taken out since it took part, and that is to be one
    /// all the same, was demoted and promoted meanwhile: it begins anew.
    pub(super) async fn switch_role(&mut self, is_taken_out: bool) -> anyhow::Result<()> {
        let Some(part) = &mut self.part else { return Ok(()) };
        if part.fault.is_some() {
            if part.membership.manager && !is_taken_out {
                return Ok(());
            }
            self.leave_fault()?;
        }
        let Some(part) = &mut self.part else { return Ok(()) };
        match (part.membership.manager, part.manager.take()) {
            (true, None) => self.become_manager().await,
            (true, Some(manager)) if is_taken_out => {
                part.managers.set_own(None);
                self.slot.close(refusals::preparing());
                manager.stop().await;
                self.become_manager().await
            }
            (false, Some(manager)) => {
                tracing::info!("this node is a worker from now on");
                part.managers.set_own(None);
                self.slot.close(refusals::worker());
                manager.stop().await;
                self.wipe_store()?;
                self.follow_autolock().await;
                Ok(())
            }
            (_, manager) => {
                part.manager = manager;
                Ok(())
            }
        }
    }

    async fn become_manager(&mut self) -> anyhow::Result<()> {
        tracing::info!("this node is a manager from now on");
        self.wipe_store()?;
        let Some(part) = &self.part else { return Ok(()) };
        let listener = self.bind(&part.membership).await?;
        let manager = self.make_manager(&part.membership, (&part.mesh, &part.present), listener).await?;
        if let Some(part) = &mut self.part {
            part.manager = Some(manager);
        }
        self.begin_to_take_part();
        Ok(())
    }

    /// The node is part of no cluster, and nothing of one is left on the disk.
    pub(super) fn forget(&mut self) -> anyhow::Result<()> {
        self.wipe_store()?;
        MembershipFile::remove(&self.data)?;
        Memory::remove(&self.data).context("what was seen of the cluster")?;
        self.node.fault.send_replace(String::new());
        self.slot.close(refusals::not_in_cluster());
        Ok(())
    }

    pub(super) fn wipe_store(&self) -> anyhow::Result<()> {
        self.wipe("store")
    }

    fn wipe(&self, name: &str) -> anyhow::Result<()> {
        let directory = self.data.join(name);
        let wiped = match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => sync(&self.data),
        };
        wiped.with_context(|| directory.to_string())
    }

    /// A store that nobody knows what it is for must not be thrown away.
    fn check_no_store(&self) -> anyhow::Result<()> {
        let store = self.data.join("store");
        anyhow::ensure!(
            !store.exists(),
            "{} is missing, but {store} is there: restore it from a backup, or move the store away to begin anew",
            self.data.join("membership")
        );
        Ok(())
    }

    pub(super) fn tell_phase(&self) {
        if matches!(self.keys, Keys::Locked(_)) {
            self.status.send_replace(Status { phase: Phase::Locked, ..Status::inactive() });
            return;
        }
        let Some(part) = &self.part else {
            let inactive = Status::inactive();
            self.status.send_replace(match &self.stuck {
                Some(stuck) => Status { phase: Phase::Error, error: stuck.message.clone(), ..inactive },
                None => inactive,
            });
            return;
        };
        let takes_part = part.manager.as_ref().is_none_or(ManagerPart::has_joined);
        let wrong = part.fault.as_ref().map(ToString::to_string).or_else(|| part.doubt.clone());
        let active = takes_part && *part.connected.borrow() && wrong.is_none();
        self.status.send_modify(|status| {
            status.phase = match (active, &part.fault) {
                (_, Some(_)) => Phase::Error,
                (true, None) => Phase::Active,
                (false, None) => Phase::Pending,
            };
            status.membership = Some(part.membership.clone());
            let manager = part.manager.as_ref().filter(|_| takes_part);
            status.manager = manager.map(|manager| (manager.store.clone(), manager.own.pipe.clone()));
            if active {
                status.error.clear();
            }
            if let Some(wrong) = wrong {
                status.error = wrong;
            }
        });
    }
}

fn save(keys: &Keys, data: &Utf8Path, membership: &Membership) -> anyhow::Result<()> {
    MembershipFile::new(data, keys.open()?.sealer()).save(membership)
}

/// What happens next. Cancel-safe: every part of it is.
async fn next(part: &mut Option<Part>) -> Happened {
    let Some(part) = part else { return std::future::pending().await };
    let Part { news, agent, connected, manager, due, .. } = part;
    let (failed, joined, locks, authority, rolled_back) = match manager {
        Some(ManagerPart { store, manager, joined, locks, authority, rolled_back, .. }) => {
            let failed = async move {
                // A store that has failed closes too, and that is not why.
                tokio::select! {
                    biased;
                    failure = store.failed() => anyhow::Error::new(failure).context("the store has failed"),
                    ended = manager.ended() => ended.into(),
                }
            };
            (Some(failed), Some(joined), Some(locks), Some(authority), rolled_back.as_mut())
        }
        None => (None, None, None, None, None),
    };
    tokio::select! {
        told = news.recv() => match told {
            Some(news) => Happened::News(news),
            None => Happened::Failed(anyhow::anyhow!("the agent's news have ended")),
        },
        ended = agent => Happened::Failed(match ended {
            Ok(Ok(())) => anyhow::anyhow!("the agent has ended"),
            Ok(Err(error)) => error,
            Err(error) => anyhow::anyhow!("the agent has panicked: {error}"),
        }),
        () = changed(Some(connected)) => Happened::Session,
        () = changed(locks) => Happened::Autolock,
        () = changed(authority) => Happened::Authority,
        fault = fault(rolled_back) => Happened::RolledBack(fault),
        outcome = async {
            match joined {
                Some(joined) => {
                    changed(Some(joined)).await;
                    joined.borrow().clone()
                }
                None => std::future::pending().await,
            }
        } => Happened::Joined(outcome),
        error = async {
            match failed {
                Some(failed) => failed.await,
                None => std::future::pending().await,
            }
        } => Happened::Failed(error),
        () = due.wait(&SystemClock) => Happened::RenewalDue,
    }
}

/// Returns when the value is another one; never when it will not be.
async fn changed<T>(watch: Option<&mut watch::Receiver<T>>) {
    if let Some(watch) = watch
        && watch.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Returns when the store is known to be older than it was.
async fn fault(watch: Option<&mut watch::Receiver<Option<RolledBack>>>) -> RolledBack {
    if let Some(watch) = watch
        && let Ok(found) = watch.wait_for(Option::is_some).await
        && let Some(found) = found.clone()
    {
        return found;
    }
    std::future::pending().await
}
