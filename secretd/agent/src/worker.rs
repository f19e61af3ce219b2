//! Which tasks this node has: one runner each, told what is wanted as it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use secretd_core::seam::runtime::Observed;
use secretd_proto::id::TaskId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::assignment::{Change, GrantTold};
use crate::runner::{CleanError, Context, FIRST_PAUSE, Found, LONGEST_PAUSE, Runner, Wanted};

/// The tasks of this node. Lives through sessions: without a manager everything goes on as it was.
#[derive(Debug)]
pub(crate) struct Worker {
    context: Context,
    tasks: BTreeMap<TaskId, watch::Sender<Wanted>>,
    /// Grants whose task has not been told yet.
    early: HashMap<TaskId, Vec<GrantTold>>,
    /// What an earlier secretd has left, until the first complete set tells whose it is.
    found: Option<BTreeMap<TaskId, Found>>,
    runners: JoinSet<TaskId>,
}

impl Worker {
    /// A worker that finds `observed` when it begins.
    pub(crate) fn new(context: Context, observed: Vec<Observed>) -> Self {
        let found = observed.into_iter().map(|one| (one.task, one.status.map_or(Found::Remains, Found::Container)));
        Self {
            context,
            tasks: BTreeMap::new(),
            early: HashMap::new(),
            found: Some(found.collect()),
            runners: JoinSet::new(),
        }
    }

    /// A whole set: what is not in it is taken.
    pub(crate) async fn complete(&mut self, changes: Vec<Change>) {
        let mut tasks = BTreeSet::new();
        let mut versions = BTreeSet::new();
        let mut grants: BTreeMap<TaskId, Vec<GrantTold>> = BTreeMap::new();
        let mut given = Vec::new();
        for change in changes {
            match change {
                Change::GiveSecret(version, payload) => {
                    versions.insert(version);
                    self.context.payloads.give(version, payload);
                }
                Change::GiveGrant(task, grant) => grants.entry(task).or_default().push(grant),
                Change::GiveTask(task) => {
                    tasks.insert(task.id);
                    given.push(task);
                }
                Change::TakeSecret(_) | Change::TakeGrant(..) | Change::TakeTask(_) => {}
            }
        }
        for task in given {
            let grants = grants.remove(&task.id).unwrap_or_default();
            self.set(Wanted { task: Arc::new(*task), grants, forgotten: false });
        }
        self.early = grants.into_iter().collect(); // of tasks that are still to come
        let gone: Vec<TaskId> = self.tasks.keys().filter(|task| !tasks.contains(task)).copied().collect();
        gone.iter().for_each(|task| self.forget(task));
        for version in self.context.payloads.versions().iter().filter(|version| !versions.contains(version)) {
            self.take_secret(*version).await;
        }
        for (task, _) in self.found.take().unwrap_or_default() {
            self.runners.spawn(remove_stranger(self.context.clone(), task));
        }
    }

    /// Changes, in their order.
    pub(crate) async fn incremental(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::GiveSecret(version, payload) => self.context.payloads.give(version, payload),
                Change::TakeSecret(version) => self.take_secret(version).await,
                Change::GiveGrant(task, grant) => self.give_grant(task, grant),
                Change::TakeGrant(task, secret, target) => {
                    if let Some(wanted) = self.tasks.get(&task) {
                        wanted.send_modify(|wanted| {
                            wanted.grants.retain(|old| (old.secret, &old.target) != (secret, &target))
                        });
                    }
                }
                Change::GiveTask(task) => {
                    let grants = match self.tasks.get(&task.id) {
                        Some(wanted) => wanted.borrow().grants.clone(),
                        None => self.early.remove(&task.id).unwrap_or_default(),
                    };
                    self.set(Wanted { task: Arc::new(*task), grants, forgotten: false });
                }
                Change::TakeTask(task) => self.forget(&task),
            }
        }
        while self.runners.try_join_next().is_some() {} // runners of forgotten tasks
    }

    /// Ends every task, and returns when nothing is left of them: this node leaves the cluster.
    pub(crate) async fn end_all(&mut self) {
        self.complete(Vec::new()).await;
        while self.runners.join_next().await.is_some() {}
    }

    fn give_grant(&mut self, task: TaskId, grant: GrantTold) {
        match self.tasks.get(&task) {
            Some(wanted) => wanted.send_modify(|wanted| replace(&mut wanted.grants, grant)),
            None => replace(self.early.entry(task).or_default(), grant),
        }
    }

    fn set(&mut self, wanted: Wanted) {
        let id = wanted.task.id;
        if let Some(sender) = self.tasks.get(&id) {
            sender.send_replace(wanted);
            return;
        }
        let found = self.found.as_mut().and_then(|found| found.remove(&id)).unwrap_or(Found::Nothing);
        let (sender, receiver) = watch::channel(wanted);
        self.tasks.insert(id, sender);
        let runner = Runner::new(self.context.clone(), receiver);
        self.runners.spawn(async move {
            runner.run(found).await;
            id
        });
    }

    fn forget(&mut self, task: &TaskId) {
        self.early.remove(task);
        if let Some(sender) = self.tasks.remove(task) {
            sender.send_modify(|wanted| wanted.forgotten = true);
            // The runner keeps its receiver, and with a dropped sender would take itself for abandoned.
            let id = *task;
            self.runners.spawn(async move {
                sender.closed().await;
                id
            });
        }
    }

    async fn take_secret(&self, version: crate::assignment::SecretVersion) {
        self.context.payloads.take(&version);
        if let Err(error) = self.context.secret_mount.forget(version.0, version.1).await {
            tracing::debug!(secret = %version.0, %error, "a version could not be forgotten; a restart of secret-fs forgets all");
        }
    }
}

/// Each target of a task has one grant, the last that was told.
fn replace(grants: &mut Vec<GrantTold>, grant: GrantTold) {
    grants.retain(|old| (old.secret, &old.target) != (grant.secret, &grant.target));
    grants.push(grant);
}

/// A container that no manager knows of goes, and what it could read, however often that must be tried.
async fn remove_stranger(context: Context, task: TaskId) -> TaskId {
    tracing::info!(%task, "a container whose task is gone is removed");
    let mut pause = FIRST_PAUSE;
    while let Err(error) = try_to_remove(&context, &task).await {
        if pause == FIRST_PAUSE {
            tracing::warn!(%task, %error, "a container could not be removed; it is tried again");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    task
}

async fn try_to_remove(context: &Context, task: &TaskId) -> Result<(), CleanError> {
    context.secret_mount.retract(task).await?;
    context.runtime.remove(task).await?;
    Ok(context.runtime.forget(task).await?)
}
