//! What one node has been told, and what it has to be told next. Pure: tasks and secrets in, changes out.
//!
//! A node gets a secret's ciphertext once, however many of its tasks use it; each task gets its own grants. Secrets are
//! given before the grants that need them, grants before their task, and taken away in the reverse order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use secretd_core::secret::{Secret, SecretVersion};
use secretd_core::service::SecretGrant;
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Version;
use secretd_proto::id::{SecretId, TaskId};

/// Where the set looks things up: the state at one moment.
pub(crate) trait Source {
    /// A task that is assigned to the set's node.
    fn task(&self, id: TaskId) -> Option<&Arc<Task>>;
    /// A secret.
    fn secret(&self, id: SecretId) -> Option<&Arc<Secret>>;
    /// The node's secret-fs key; empty while it has none.
    fn node_key(&self) -> &[u8];
    /// Which moment: grants that are made anew at a later one have a greater epoch.
    fn version(&self) -> Version;
}

/// One thing to tell a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delta {
    /// Hand over the ciphertext of a secret's version.
    GiveSecret(Payload),
    /// Wrap the data key of a secret's version for one target of a task.
    GiveGrant(Grant),
    /// Tell of a task, or of what is wanted of it now.
    GiveTask(Arc<Task>),
    /// Forget a task.
    TakeTask(TaskId),
    /// Take a grant away.
    TakeGrant(Grant),
    /// Forget a secret's version.
    TakeSecret(Payload),
}

/// One version of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Payload {
    pub(crate) secret: SecretId,
    pub(crate) version: SecretVersion,
}

/// One target of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) task: TaskId,
    pub(crate) payload: Payload,
    pub(crate) target: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) epoch: u64,
}

/// What one node has been told.
#[derive(Debug, Default)]
pub(crate) struct AssignmentSet {
    tasks: BTreeMap<TaskId, Told>,
    uses: BTreeMap<Payload, usize>,
    by_secret: BTreeMap<SecretId, BTreeSet<TaskId>>,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Told {
    task: Arc<Task>,
    grants: BTreeMap<String, Grant>,
}

/// What may have changed since the last time.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) tasks: BTreeSet<TaskId>,
    pub(crate) secrets: BTreeSet<SecretId>,
}

impl AssignmentSet {
    /// Brings the set to the state of `source` for what was touched, and says what to tell, in order. A new key of the
    /// node touches every task that has grants or waits for them: `waiting` names those.
    pub(crate) fn advance(
        &mut self,
        source: &impl Source,
        touched: Touched,
        waiting: impl Iterator<Item = TaskId>,
    ) -> Vec<Delta> {
        let rekeyed = self.key != source.node_key();
        if rekeyed {
            self.key = source.node_key().to_vec();
        }
        let mut tasks = touched.tasks;
        let users = touched.secrets.iter().filter_map(|secret| self.by_secret.get(secret)).flatten();
        tasks.extend(users.copied());
        if rekeyed {
            tasks.extend(self.tasks.keys().copied());
            tasks.extend(waiting);
        }
        let mut diff = Diff::default();
        for id in tasks {
            self.advance_task(source, id, rekeyed, &mut diff);
        }
        self.count_uses(diff)
    }

    fn advance_task(&mut self, source: &impl Source, id: TaskId, rekeyed: bool, diff: &mut Diff) {
        let told = self.tasks.remove(&id);
        let wanted = source.task(id).filter(|task| is_due(source, task, told.is_some()));
        let Some(task) = wanted.map(|task| with_what_is_there(source, task)) else {
            if let Some(told) = told {
                diff.taken_grants.extend(told.grants.into_values());
                diff.taken_tasks.push(id);
            }
            return;
        };
        let (known, mut old) = told.map_or((None, BTreeMap::new()), |told| (Some(told.task), told.grants));
        let mut grants = BTreeMap::new();
        if source.node_key().is_empty() && !task.status.state.is_terminal() {
            // secret-fs is being restarted: what was told stays told, until there is a key to tell it anew for.
            grants.append(&mut old);
        }
        for wanted in wanted_grants(source, &task) {
            let target = wanted.target.clone();
            match old.remove(&target) {
                Some(have) if !rekeyed && (Grant { epoch: have.epoch, ..wanted.clone() }) == have => {
                    grants.insert(target, have);
                }
                have => {
                    diff.replaced_grants.extend(have);
                    diff.given_grants.push(wanted.clone());
                    grants.insert(target, wanted);
                }
            }
        }
        diff.taken_grants.extend(old.into_values());
        if known.is_none_or(|known| differs(&known, &task)) {
            diff.given_tasks.push(Arc::clone(&task));
        }
        self.tasks.insert(id, Told { task, grants });
    }

    fn count_uses(&mut self, diff: Diff) -> Vec<Delta> {
        let before: BTreeSet<Payload> = diff.payloads().filter(|payload| self.uses.contains_key(payload)).collect();
        for grant in &diff.given_grants {
            *self.uses.entry(grant.payload).or_default() += 1;
            self.by_secret.entry(grant.payload.secret).or_default().insert(grant.task);
        }
        for grant in diff.replaced_grants.iter().chain(&diff.taken_grants) {
            if let Some(uses) = self.uses.get_mut(&grant.payload) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&grant.payload);
                }
            }
            self.forget_user(grant);
        }
        let after: BTreeSet<Payload> = diff.payloads().filter(|payload| self.uses.contains_key(payload)).collect();

        let given = after.difference(&before).copied().map(Delta::GiveSecret);
        let taken = before.difference(&after).copied().map(Delta::TakeSecret);
        given
            .chain(diff.given_grants.into_iter().map(Delta::GiveGrant))
            .chain(diff.given_tasks.into_iter().map(Delta::GiveTask))
            .chain(diff.taken_tasks.into_iter().map(Delta::TakeTask))
            .chain(diff.taken_grants.into_iter().map(Delta::TakeGrant))
            .chain(taken)
            .collect()
    }

    fn forget_user(&mut self, grant: &Grant) {
        let of = |other: &Grant| other.payload.secret == grant.payload.secret;
        let still = self.tasks.get(&grant.task).is_some_and(|told| told.grants.values().any(of));
        if !still && let Some(users) = self.by_secret.get_mut(&grant.payload.secret) {
            users.remove(&grant.task);
            if users.is_empty() {
                self.by_secret.remove(&grant.payload.secret);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Diff {
    given_grants: Vec<Grant>,
    /// Grants that a given one replaces: nothing to tell, but their payload has one use less.
    replaced_grants: Vec<Grant>,
    taken_grants: Vec<Grant>,
    given_tasks: Vec<Arc<Task>>,
    taken_tasks: Vec<TaskId>,
}

impl Diff {
    fn payloads(&self) -> impl Iterator<Item = Payload> {
        let grants = self.given_grants.iter().chain(&self.replaced_grants).chain(&self.taken_grants);
        grants.map(|grant| grant.payload)
    }
}

/// Whether the node is to know of a task. One that cannot have its secrets yet waits, unless it is to stop anyway. A task
/// that the node has accepted is told in any case: one that is not in the complete set of a new session would be ended.
fn is_due(source: &impl Source, task: &Task, is_told: bool) -> bool {
    if task.status.state < TaskState::Assigned {
        return false;
    }
    let secrets = &task.spec.container.secrets;
    let is_ready = secrets.is_empty()
        || (!source.node_key().is_empty() && secrets.iter().all(|grant| source.secret(grant.secret).is_some()));
    is_told || is_ready || task.desired_state > TaskState::Running || task.status.state > TaskState::Assigned
}

/// The task without the secrets that were removed while it had them: the node withdraws those.
fn with_what_is_there(source: &impl Source, task: &Arc<Task>) -> Arc<Task> {
    let is_there = |grant: &SecretGrant| source.secret(grant.secret).is_some();
    if task.spec.container.secrets.iter().all(is_there) {
        return Arc::clone(task);
    }
    let mut task = Task::clone(task);
    task.spec.container.secrets.retain(is_there);
    Arc::new(task)
}

/// What the task may read now: nothing once it has ended, nor while the node has no key.
fn wanted_grants(source: &impl Source, task: &Task) -> Vec<Grant> {
    if task.status.state.is_terminal() || source.node_key().is_empty() {
        return Vec::new();
    }
    let grants = task.spec.container.secrets.iter().filter_map(|grant| {
        let secret = source.secret(grant.secret)?;
        Some(Grant {
            task: task.id,
            payload: Payload { secret: grant.secret, version: grant.pinned.unwrap_or(secret.version) },
            target: grant.target.clone(),
            uid: grant.uid,
            gid: grant.gid,
            mode: grant.mode,
            epoch: source.version().0,
        })
    });
    grants.collect()
}

/// Whether a task's node has to hear of a change: of what is wanted, not of what the node itself has said.
fn differs(known: &Task, now: &Task) -> bool {
    known.desired_state != now.desired_state || known.spec != now.spec || known.node_id != now.node_id
}

#[cfg(test)]
mod tests;
