//! Which tasks have which secrets: everything that the control socket changes.
//!
//! One lock for all of it, taken by control requests only; opens and reads never wait for it. A change is checked and
//! decrypted completely before the first bit of it shows. Kernel notifications go out after the lock is released.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use fuser::Notifier;
use secretd_proto::fs::{Grant, PublishedTask, Refusal, Target};
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_proto::limit::{AEAD_TAG_LENGTH, MAX_SECRET_LENGTH};
use secretd_sealing::binding::{GrantBinding, PayloadBinding};
use secretd_sys::secret_memory::Protection;

use crate::caller::Shim;
use crate::clock;
use crate::node_key::NodeKey;
use crate::payload::{Payload, Payloads, wipe_stack_below};
use crate::tree::{File, TargetRefused, Tree};
use crate::view::{Content, Stale, TaskView, file_of};

/// What the kernel must drop, and through which mount.
pub(crate) type Notices = Option<(Notifier, Vec<Stale>)>;

/// The payloads that a set of grants opens, each once.
type Opened = Vec<Arc<Payload>>;

/// All published tasks.
#[derive(Debug)]
pub(crate) struct Registry {
    key: Arc<NodeKey>,
    payloads: Payloads,
    tasks: HashMap<TaskId, Task>,
    /// The newest epoch of each grant seen, also of tasks retracted not long ago.
    epochs: HashMap<TaskId, HashMap<(SecretId, Target), u64>>,
    retracted: VecDeque<TaskId>,
    next_attachment: u64,
}

#[derive(Debug)]
struct Task {
    cluster: ClusterId,
    node: NodeId,
    view: Arc<TaskView>,
    attachment: Option<Attachment>,
    /// Targets that have changed since their watchers were told. A secretd that dies between the change and the telling
    /// has a successor that asks again.
    unwoken: Vec<Target>,
}

/// A mount of a task that is served.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) number: u64,
    pub(crate) notifier: Notifier,
    pub(crate) shim: Arc<Shim>,
}

impl Registry {
    pub(crate) fn new(key: Arc<NodeKey>, memory: Protection) -> Self {
        Self {
            key,
            payloads: Payloads::new(memory),
            tasks: HashMap::new(),
            epochs: HashMap::new(),
            retracted: VecDeque::new(),
            next_attachment: 1,
        }
    }

    /// Keeps a ciphertext for the grants to come.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for one that no secret can have.
    pub(crate) fn store(&mut self, secret: SecretId, version: u64, ciphertext: Vec<u8>) -> Result<(), Refusal> {
        let possible = (AEAD_TAG_LENGTH + 1)..=(AEAD_TAG_LENGTH + MAX_SECRET_LENGTH);
        if !possible.contains(&ciphertext.len()) {
            return Err(Refusal::Malformed);
        }
        self.payloads.store(secret, version, ciphertext);
        Ok(())
    }

    /// Drops a ciphertext.
    pub(crate) fn forget(&mut self, secret: SecretId, version: u64) {
        self.payloads.forget(secret, version);
    }

    /// Makes or replaces the secrets of a task: all or none. Gives the targets whose bytes are new.
    ///
    /// # Errors
    /// Any [`Refusal`] of a grant: nothing has changed.
    pub(crate) fn publish(
        &mut self,
        task: TaskId,
        cluster: ClusterId,
        node: NodeId,
        grants: &[Grant],
    ) -> Result<(Vec<Target>, Notices), Refusal> {
        let (files, opened) = self.open(task, cluster, node, grants)?;
        let done = match self.tasks.get_mut(&task) {
            Some(known) => {
                let (changed, stale) = known.view.replace(files, clock::now()).map_err(refused_target)?;
                (known.cluster, known.node) = (cluster, node);
                known.unwoken.clear(); // a new mount follows, whose files nobody watches yet
                (changed, notices(known, stale))
            }
            None => {
                let tree = Tree::build(files, None).map_err(refused_target)?;
                let view = Arc::new(TaskView::new(task, tree, clock::now()));
                self.tasks.insert(task, Task { cluster, node, view, attachment: None, unwoken: Vec::new() });
                (grants.iter().map(|grant| grant.target.clone()).collect(), None)
            }
        };
        self.settle(task, grants, &opened);
        Ok(done)
    }

    /// Gives published files new versions, and withdraws those that are not granted any more. Gives the targets whose
    /// bytes are new or gone, those of earlier updates too whose watchers were not told ([`Registry::woken`]).
    ///
    /// # Errors
    /// [`Refusal::UnknownTask`], or any refusal of a grant: nothing has changed.
    pub(crate) fn update(&mut self, task: TaskId, grants: &[Grant]) -> Result<(Vec<Target>, Notices), Refusal> {
        let known = self.tasks.get(&task).ok_or(Refusal::UnknownTask(task))?;
        let (view, cluster, node) = (Arc::clone(&known.view), known.cluster, known.node);
        let (files, opened) = self.open(task, cluster, node, grants)?;
        let (changed, stale) = view.update(files).map_err(refused_target)?;
        self.settle(task, grants, &opened);
        self.payloads.drop_unused();
        let Some(known) = self.tasks.get_mut(&task) else { return Err(Refusal::UnknownTask(task)) };
        known.unwoken.retain(|target| !changed.contains(target));
        known.unwoken.extend(changed);
        Ok((known.unwoken.clone(), notices(known, stale)))
    }

    /// The watchers of these targets have been told.
    pub(crate) fn woken(&mut self, task: TaskId, targets: &[Target]) {
        if let Some(known) = self.tasks.get_mut(&task) {
            known.unwoken.retain(|target| !targets.contains(target));
        }
    }

    /// Ends all reading of a task and drops what nobody else uses.
    pub(crate) fn retract(&mut self, task: TaskId) -> Notices {
        let known = self.tasks.remove(&task)?;
        let stale = known.view.retract();
        self.payloads.drop_unused();
        self.retracted.push_back(task);
        if self.retracted.len() > EPOCHS_KEPT
            && let Some(oldest) = self.retracted.pop_front()
            && !self.tasks.contains_key(&oldest)
        {
            self.epochs.remove(&oldest);
        }
        notices(&known, stale)
    }

    /// The view of a published task.
    ///
    /// # Errors
    /// [`Refusal::UnknownTask`].
    pub(crate) fn view(&self, task: TaskId) -> Result<Arc<TaskView>, Refusal> {
        self.tasks.get(&task).map(|known| Arc::clone(&known.view)).ok_or(Refusal::UnknownTask(task))
    }

    /// A number for a mount that is about to be served.
    pub(crate) fn number_attachment(&mut self) -> u64 {
        self.next_attachment += 1;
        self.next_attachment
    }

    /// From now on the task is served through this mount, in place of an earlier one.
    ///
    /// # Errors
    /// [`Refusal::UnknownTask`] when it was retracted meanwhile.
    pub(crate) fn attach(&mut self, view: &Arc<TaskView>, attachment: Attachment) -> Result<(), Refusal> {
        let task = view.task();
        let known = self.tasks.get_mut(&task).filter(|known| Arc::ptr_eq(&known.view, view));
        let known = known.ok_or(Refusal::UnknownTask(task))?;
        known.attachment = Some(attachment);
        Ok(())
    }

    /// A mount is no longer served.
    pub(crate) fn detach(&mut self, task: TaskId, number: u64) {
        if let Some(known) = self.tasks.get_mut(&task) {
            known.attachment.take_if(|attachment| attachment.number == number);
        }
    }

    /// Whether a mount of the task is served.
    pub(crate) fn is_attached(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|known| known.attachment.is_some())
    }

    /// Whether a mount of the task is served for a process that lives and is not `pid`.
    pub(crate) fn is_served_for_another(&self, task: TaskId, pid: u32) -> bool {
        let attachment = self.tasks.get(&task).and_then(|known| known.attachment.as_ref());
        attachment.is_some_and(|attachment| attachment.shim.lives() && !attachment.shim.is(pid))
    }

    /// Whether no task has secrets.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What is published.
    pub(crate) fn published(&self) -> Vec<PublishedTask> {
        let show = |(&task, known): (&TaskId, &Task)| PublishedTask {
            task,
            attached: known.attachment.is_some(),
            grants: known.view.grants(),
        };
        self.tasks.iter().map(show).collect()
    }

    /// Bytes of plaintext held.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payloads.bytes()
    }

    /// Checks and decrypts grants; changes nothing.
    fn open(
        &self,
        task: TaskId,
        cluster: ClusterId,
        node: NodeId,
        grants: &[Grant],
    ) -> Result<(Vec<File<Content>>, Opened), Refusal> {
        self.check(task, grants)?;
        let mut opened: HashMap<(SecretId, u64), Arc<Payload>> = HashMap::new();
        let mut files = Vec::with_capacity(grants.len());
        for grant in grants {
            let held = opened.get(&(grant.secret, grant.version)).cloned();
            let payload = self.open_one(
                &GrantBinding { payload: payload_binding(cluster, grant), node, task, epoch: grant.epoch },
                grant,
                held,
            );
            wipe_stack_below();
            let payload = payload?;
            opened.insert((grant.secret, grant.version), Arc::clone(&payload));
            files.push(file_of(grant, payload, clock::now()));
        }
        Ok((files, opened.into_values().collect()))
    }

    #[inline(never)]
    fn open_one(
        &self,
        binding: &GrantBinding,
        grant: &Grant,
        held: Option<Arc<Payload>>,
    ) -> Result<Arc<Payload>, Refusal> {
        let dek = self.key.open(grant, binding)?;
        match held {
            Some(payload) => Payloads::again(payload, &dek, &binding.payload),
            None => self.payloads.open(&dek, &binding.payload),
        }
    }

    fn check(&self, task: TaskId, grants: &[Grant]) -> Result<(), Refusal> {
        let mut targets = HashSet::new();
        for grant in grants {
            if grant.mode > 0o777 || !targets.insert(&grant.target) {
                return Err(Refusal::Target(grant.target.path_in_container()));
            }
            let place = (grant.secret, grant.target.clone());
            let seen = self.epochs.get(&task).and_then(|places| places.get(&place));
            if seen.is_some_and(|&newest| grant.epoch < newest) {
                return Err(Refusal::OldEpoch(grant.secret, grant.epoch));
            }
        }
        Ok(())
    }

    fn settle(&mut self, task: TaskId, grants: &[Grant], opened: &[Arc<Payload>]) {
        for payload in opened {
            self.payloads.keep(payload);
        }
        self.payloads.drop_unused();
        let epochs = self.epochs.entry(task).or_default();
        for grant in grants {
            let newest = epochs.entry((grant.secret, grant.target.clone())).or_default();
            *newest = grant.epoch.max(*newest);
        }
    }
}

/// Grants of this many retracted tasks cannot be replayed with an older epoch; task ids are never used again, so this
/// guards against a confused agent, not for ever.
const EPOCHS_KEPT: usize = 4096;

fn payload_binding(cluster: ClusterId, grant: &Grant) -> PayloadBinding {
    PayloadBinding {
        cluster,
        secret: grant.secret,
        version: grant.version,
        name: grant.name.clone(),
        length: grant.length,
    }
}

fn notices(task: &Task, stale: Vec<Stale>) -> Notices {
    task.attachment.as_ref().map(|attachment| (attachment.notifier.clone(), stale))
}

fn refused_target(TargetRefused(target): TargetRefused) -> Refusal {
    Refusal::Target(target)
}
