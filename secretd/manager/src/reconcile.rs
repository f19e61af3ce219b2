//! The shell around the pure decisions: sees what changes, plans, and proposes.
//!
//! Orchestrator, allocator and scheduler run in one loop, so that a new task is made, allocated and placed in one
//! operation. The loop takes all changes that are there and never waits for more.

mod enact;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::placement::Placement;
use secretd_core::seam::clock::Clock;
use secretd_core::service::ServiceMode;
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, ServiceId};
use secretd_store::{Change, Event, Op, ProposeError, Store, View, Watch};

use crate::manager::Ended;
use crate::orchestrate::memory::Memory;
use crate::orchestrate::plan::{Host, Plan, Situation};
use crate::orchestrate::slot::has_ended;

/// Before the second attempt when the store does not take a proposal for a reason that may pass; doubled each time.
const STORE_RETRY: Duration = Duration::from_millis(200);

/// The longest time between two such attempts.
const MAX_STORE_RETRY: Duration = Duration::from_secs(10);

/// Operations of one proposal: a service may have many tasks, and others write too.
const MAX_OPS: usize = 1000;

/// Keeps every service's tasks as they should be.
#[derive(Debug)]
pub(crate) struct Reconciler {
    store: Store,
    clock: Arc<dyn Clock>,
    memory: Memory,
    work: Work,
    wake: BTreeMap<ServiceId, Timestamp>,
    store_retry: Duration,
}

/// What is to be looked at.
#[derive(Debug, Default)]
struct Work {
    services: BTreeSet<ServiceId>,
    /// Whether tasks that wait for a node may have one now.
    placement: bool,
}

impl Reconciler {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            memory: Memory::default(),
            work: Work::default(),
            wake: BTreeMap::new(),
            store_retry: STORE_RETRY,
        }
    }

    /// Runs until the store is closed.
    pub(crate) async fn run(mut self) -> Result<Infallible, Ended> {
        let (mut view, mut watch) = self.start();
        loop {
            if !self.work.is_empty() {
                view = self.work_on(view).await;
            }
            match self.next(&mut watch).await {
                Some(newer) if newer.version() >= view.version() => view = newer,
                Some(_) => {}
                None => (view, watch) = self.start_again()?,
            }
        }
    }

    /// Does all that is to be done, and returns the view to go on with.
    async fn work_on(&mut self, view: View) -> View {
        match self.round(&view, &self.work).await {
            Ok(done) => self.finish(done),
            Err(ProposeError::Conflict(_)) => {
                let newer = self.store.view();
                if newer.version() == view.version() {
                    self.one_by_one(&view).await;
                }
                return newer; // otherwise somebody was faster
            }
            Err(error) => {
                if matches!(error, ProposeError::Full) {
                    self.shrink(&view).await;
                }
                tracing::warn!(error = &error as &dyn std::error::Error, "the store took no proposal");
                tokio::time::sleep(self.store_retry).await;
                self.store_retry = (self.store_retry * 2).min(MAX_STORE_RETRY);
                return self.store.view();
            }
        }
        self.store_retry = STORE_RETRY;
        view
    }

    /// On a full disk: what ends tasks is done without what would make new ones, so that a service can be removed.
    async fn shrink(&self, view: &View) {
        let Some((proposal, _)) = self.plan(view, &self.work) else { return };
        let ops: Vec<Op> = proposal.ops.into_iter().filter(|op| !op.grows_state()).collect();
        if ops.is_empty() {
            return;
        }
        if let Err(error) = self.store.propose(ops).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "not even what ends tasks could be stored");
        }
    }

    /// A plan was refused on the view that it was made from, which is a defect: no service may stand in the way of others.
    async fn one_by_one(&mut self, view: &View) {
        let Work { services, placement } = std::mem::take(&mut self.work);
        let alone = services.into_iter().map(|id| Work { services: BTreeSet::from([id]), placement: false });
        for work in alone.chain([Work { services: BTreeSet::new(), placement }]) {
            match self.round(view, &work).await {
                Ok(done) => self.remember(done),
                Err(ProposeError::Conflict(_)) if self.store.view().version() != view.version() => self.work.add(work),
                Err(ProposeError::Conflict(_)) => {
                    tracing::error!(services = ?work.services, "a plan was refused on the view that it was made from");
                }
                Err(_) => self.work.add(work),
            }
        }
    }

    fn finish(&mut self, done: Done) {
        self.work = Work::default();
        self.remember(done);
    }

    fn remember(&mut self, done: Done) {
        for (id, due) in done.wake {
            match due {
                Some(due) => self.wake.insert(id, due),
                None => self.wake.remove(&id),
            };
        }
        for enact::Restart { service, slot, spec_version } in done.restarts {
            self.memory.restarted(service, slot, spec_version, done.at);
        }
    }

    fn start(&mut self) -> (View, Watch) {
        let (view, watch) = self.store.view_and_watch();
        self.memory = Memory::recall(view.tasks());
        self.work.services = view.services().map(|service| service.id).collect();
        self.work.services.extend(view.tasks().map(|task| task.service_id));
        self.work.placement = true;
        (view, watch)
    }

    /// A watch ends when the store is closed, or when its state was replaced as a whole.
    fn start_again(&mut self) -> Result<(View, Watch), Ended> {
        let (view, mut watch) = self.start();
        match watch.next().now_or_never() {
            None => Ok((view, watch)),
            Some(None) => Err(Ended::StoreClosed),
            Some(Some(change)) => {
                self.note(&change);
                Ok((change.view.clone(), watch))
            }
        }
    }

    /// The view to plan on: after the next change and all that came with it, or when a time has come. Returns at once
    /// while there is work.
    async fn next(&mut self, watch: &mut Watch) -> Option<View> {
        let mut view = None;
        while let Some(change) = watch.try_next() {
            self.note(&change);
            view = Some(change.view.clone());
        }
        if view.is_some() || !self.work.is_empty() {
            return Some(view.unwrap_or_else(|| self.store.view()));
        }
        let due = self.wake.values().min().copied();
        let wait = due.map_or(Duration::MAX, |due| {
            Duration::from_nanos(u64::try_from(due.0.saturating_sub(self.clock.now().0)).unwrap_or(0))
        });
        tokio::select! {
            biased;
            change = watch.next() => { // cancel-safe, says Watch
                let change = change?;
                self.note(&change);
                Some(change.view.clone())
            }
            () = tokio::time::sleep(wait) => {
                let now = self.clock.now();
                let due = self.wake.iter().filter(|(_, due)| **due <= now).map(|(service, _)| *service);
                self.work.services.extend(due);
                Some(self.store.view())
            }
        }
    }

    fn note(&mut self, change: &Change) {
        for event in &change.events {
            match event {
                Event::TaskUpdated { new, .. } | Event::TaskCreated(new) => self.memory.observe(new),
                Event::TaskRemoved(task) => self.memory.forget_task(task.id),
                Event::ServiceRemoved(service) => self.memory.forget_service(service.id),
                Event::ClusterCreated(_)
                | Event::ClusterUpdated { .. }
                | Event::NodeRemoved(_)
                | Event::SecretCreated(_)
                | Event::SecretUpdated { .. }
                | Event::SecretRemoved(_)
                | Event::ServiceCreated(_)
                | Event::ServiceUpdated { .. }
                | Event::NodeCreated(_)
                | Event::NodeUpdated { .. } => {}
            }
            self.work.note(event, &change.view);
        }
    }

    async fn round(&self, view: &View, work: &Work) -> Result<Done, ProposeError> {
        let Some((proposal, mut done)) = self.plan(view, work) else {
            return Ok(Done { at: self.clock.now(), wake: Vec::new(), restarts: Vec::new() });
        };
        let enact::Proposal { ops, restarts } = proposal;
        for part in ops.chunks(MAX_OPS) {
            self.store.propose(part.to_vec()).await?;
        }
        done.restarts = restarts;
        Ok(done)
    }

    /// What the work asks for; nothing where there is no cluster.
    fn plan(&self, view: &View, work: &Work) -> Option<(enact::Proposal, Done)> {
        let now = self.clock.now();
        let mut done = Done { at: now, wake: Vec::new(), restarts: Vec::new() };
        let cluster = view.cluster()?;
        let hosts = hosts(view);
        let mut round = enact::Round::new(view, now);
        for id in &work.services {
            let tasks: Vec<&Arc<Task>> = view.tasks_of_service(id).collect();
            let plan = match view.service(id) {
                Some(service) => Plan::of_service(&Situation {
                    service,
                    tasks: &tasks,
                    hosts: &hosts,
                    barred: &barred(view, &service.spec.task.placement),
                    memory: &self.memory,
                    history_limit: cluster.spec.task_history_limit,
                    now,
                }),
                None => Plan::of_removed(&tasks, &hosts, now),
            };
            done.wake.push((*id, plan.wake_at));
            round.add(view.service(id), &plan);
        }
        round.place(work.placement);
        Some((round.finish(), done))
    }
}

/// What a round has done.
#[derive(Debug)]
struct Done {
    at: Timestamp,
    wake: Vec<(ServiceId, Option<Timestamp>)>,
    restarts: Vec<enact::Restart>,
}

impl Work {
    fn add(&mut self, other: Self) {
        self.services.extend(other.services);
        self.placement |= other.placement;
    }

    fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.placement
    }

    fn note(&mut self, event: &Event, view: &View) {
        match event {
            Event::ServiceCreated(service) | Event::ServiceRemoved(service) => {
                self.services.insert(service.id);
            }
            Event::ServiceUpdated { new, .. } => {
                self.services.insert(new.id);
            }
            Event::TaskCreated(task) => self.placement |= waits_for_node(task),
            Event::TaskUpdated { old, new } => {
                self.services.insert(new.service_id);
                self.placement |= has_ended(new) && !has_ended(old);
            }
            Event::TaskRemoved(task) => {
                self.services.insert(task.service_id);
                self.placement |= !has_ended(task);
            }
            Event::NodeCreated(_) => {
                self.placement = true;
                self.services.extend(global_services(view));
            }
            Event::NodeUpdated { old, new } => {
                self.placement = true;
                // What services ask of nodes, and what nodes say of themselves.
                let asked = |node: &Node| (node.state, node.availability, node.manager);
                let labels_differ =
                    old.labels != new.labels || old.description.engine_labels != new.description.engine_labels;
                if asked(old) != asked(new) || labels_differ {
                    self.services.extend(view.tasks_of_node(&new.id).map(|task| task.service_id));
                    self.services.extend(global_services(view));
                }
            }
            Event::NodeRemoved(node) => {
                self.placement = true;
                self.services.extend(view.tasks_of_node(&node.id).map(|task| task.service_id));
            }
            Event::ClusterCreated(_)
            | Event::ClusterUpdated { .. }
            | Event::SecretCreated(_)
            | Event::SecretUpdated { .. }
            | Event::SecretRemoved(_) => {}
        }
    }
}

/// Services whose number of tasks depends on the nodes.
fn global_services(view: &View) -> impl Iterator<Item = ServiceId> {
    view.services().filter(|service| service.spec.mode == ServiceMode::Global).map(|service| service.id)
}

/// Whether the scheduler has a task to place.
pub(crate) fn waits_for_node(task: &Task) -> bool {
    task.status.state < TaskState::Assigned && task.desired_state <= TaskState::Running
}

/// The nodes on which a service's tasks may not be.
fn barred(view: &View, placement: &Placement) -> BTreeSet<NodeId> {
    if placement.constraints.is_empty() {
        return BTreeSet::new();
    }
    view.nodes().filter(|node| !placement.allows(node)).map(|node| node.id).collect()
}

fn hosts(view: &View) -> BTreeMap<NodeId, Host> {
    let host = |state, availability, since| match (state, availability) {
        (NodeState::Down, _) => Host::Down { since },
        (_, Availability::Drain) => Host::Drains,
        (NodeState::Unknown | NodeState::Ready | NodeState::Disconnected, Availability::Active) => Host::Keeps,
        (NodeState::Unknown | NodeState::Ready | NodeState::Disconnected, Availability::Pause) => Host::Pauses,
    };
    view.nodes().map(|node| (node.id, host(node.state, node.availability, node.meta.updated_at))).collect()
}
