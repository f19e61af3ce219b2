//! Turns the plans of one round into one proposal: new tasks are allocated and placed before they are recorded.

use std::collections::HashSet;
use std::sync::Arc;

use secretd_core::service::{SecretGrant, Service, ServiceSpec, UpdateState, UpdateStatus};
use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_core::time::{Meta, Timestamp, Version};
use secretd_proto::id::{NodeId, ServiceId, TaskId};
use secretd_store::{Op, View};

use super::waits_for_node;
use crate::allocate::allocated;
use crate::orchestrate::plan::{NewTask, Plan};
use crate::schedule::{NoSuitableNode, Placement, Wanted};

/// A round of planning.
#[derive(Debug)]
pub(super) struct Round<'a> {
    view: &'a View,
    now: Timestamp,
    create: Vec<Task>,
    ops: Vec<Op>,
    removals: Vec<Op>,
    unwanted: HashSet<TaskId>,
    restarts: Vec<Restart>,
}

/// What a round asks the store for.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) ops: Vec<Op>,
    pub(super) restarts: Vec<Restart>,
}

/// A restart that the proposal contains.
#[derive(Debug)]
pub(super) struct Restart {
    pub(super) service: ServiceId,
    pub(super) slot: u64,
    pub(super) spec_version: Version,
}

impl<'a> Round<'a> {
    pub(super) fn new(view: &'a View, now: Timestamp) -> Self {
        Self {
            view,
            now,
            create: Vec::new(),
            ops: Vec::new(),
            removals: Vec::new(),
            unwanted: HashSet::new(),
            restarts: Vec::new(),
        }
    }

    /// Adds a service's plan. A service that goes back to its previous specification gets new tasks in the next round.
    pub(super) fn add(&mut self, service: Option<&Arc<Service>>, plan: &Plan) {
        if let Some(service) = service {
            match (&service.previous_spec, &plan.status) {
                (Some(previous), Some(status)) if plan.roll_back => {
                    self.roll_back(service, previous, status);
                    return;
                }
                (_, Some(status)) => {
                    self.ops.push(Op::SetUpdateStatus { id: service.id, status: Some(status.clone()) });
                }
                (_, None) => {}
            }
            for new in &plan.create {
                self.create.push(new_task(service, new, self.now));
                if new.is_restart {
                    let (service, spec_version) = (service.id, service.spec_version);
                    self.restarts.push(Restart { service, slot: new.slot, spec_version });
                }
            }
        }
        self.ops.extend(plan.desire.iter().map(|(id, state)| Op::SetTaskDesired { id: *id, state: *state }));
        let unwanted = plan.desire.iter().filter(|(_, state)| *state > TaskState::Running);
        self.unwanted.extend(unwanted.map(|(id, _)| *id));
        for id in &plan.orphan {
            self.orphan(*id);
        }
        self.removals.extend(plan.forget.iter().map(|id| Op::RemoveTask { id: *id }));
    }

    /// Places the new tasks, and those that wait when something has changed for them.
    pub(super) fn place(&mut self, waiting_too: bool) {
        let waiting = self.view.tasks().filter(|task| waiting_too && waits_for_node(task));
        let mut waiting: Vec<&Arc<Task>> = waiting.filter(|task| !self.unwanted.contains(&task.id)).collect();
        waiting.sort_by_key(|task| (task.service_id, task.spec_version, task.slot));
        if self.create.is_empty() && waiting.is_empty() {
            return;
        }
        let mut placement = Placement::new(self.view.nodes(), self.view.tasks(), self.now);
        for of_one_spec in waiting.chunk_by(|a, b| are_alike(a, b)) {
            self.place_waiting(&mut placement, of_one_spec);
        }
        let now = self.now;
        for of_one_spec in self.create.chunk_by_mut(are_alike) {
            place_new(&mut placement, of_one_spec, now);
        }
    }

    pub(super) fn finish(self) -> Proposal {
        let mut ops = self.ops;
        ops.extend(self.create.into_iter().map(|task| Op::CreateTask { task }));
        ops.extend(self.removals);
        Proposal { ops, restarts: self.restarts }
    }

    /// Goes back to the previous specification, unless a secret that it grants is not there any more.
    fn roll_back(&mut self, service: &Service, previous: &ServiceSpec, status: &UpdateStatus) {
        let is_missing = |grant: &&SecretGrant| match (self.view.secret(&grant.secret), grant.pinned) {
            (None, _) => true,
            (Some(_), Some(version)) => self.view.payload_length(&grant.secret, version).is_none(),
            (Some(_), None) => false,
        };
        let op = match previous.task.container.secrets.iter().find(is_missing) {
            Some(missing) => {
                let message =
                    format!("{}; it cannot be: secret {} is not there any more", status.message, missing.name);
                let status = UpdateStatus { state: UpdateState::Paused, message, ..status.clone() };
                Op::SetUpdateStatus { id: service.id, status: Some(status) }
            }
            None => Op::UpdateService {
                id: service.id,
                expect: service.meta.version,
                spec: previous.clone(),
                previous_spec: None,
                update_status: Some(status.clone()),
            },
        };
        self.ops.push(op);
    }

    fn place_waiting(&mut self, placement: &mut Placement<'_>, of_one_spec: &[&Arc<Task>]) {
        let places = places(placement, of_one_spec.iter().map(|task| &***task));
        for (task, place) in of_one_spec.iter().zip(places) {
            if let Some(status) = allocated(task, self.now) {
                self.ops.push(Op::UpdateTaskStatus { id: task.id, node: task.node_id, status });
            }
            match place {
                Ok(node) => self.ops.push(Op::AssignTask { id: task.id, node }),
                Err(reason) if reason.to_string() != task.status.error => {
                    let error = reason.to_string();
                    let status = TaskStatus { state: TaskState::Pending, error, ..task.status.clone() };
                    self.ops.push(Op::UpdateTaskStatus { id: task.id, node: task.node_id, status });
                }
                Err(_) => {}
            }
        }
    }

    fn orphan(&mut self, id: TaskId) {
        let Some(task) = self.view.task(&id) else { return };
        let status = TaskStatus {
            state: TaskState::Orphaned,
            since: self.now,
            error: "the node was down for too long".to_owned(),
            ..task.status.clone()
        };
        self.ops.push(Op::UpdateTaskStatus { id, node: task.node_id, status });
    }
}

/// Whether two tasks are placed by the same rules.
fn are_alike(a: &Task, b: &Task) -> bool {
    (a.service_id, a.spec_version) == (b.service_id, b.spec_version)
}

/// Where tasks of one specification go. One that has a node already may be on no other.
fn places<'a>(
    placement: &mut Placement<'_>,
    of_one_spec: impl Iterator<Item = &'a Task> + Clone,
) -> Vec<Result<NodeId, NoSuitableNode>> {
    let Some(first) = of_one_spec.clone().next() else { return Vec::new() };
    let wanted = Wanted::of(first);
    let free = of_one_spec.clone().filter(|task| task.node_id.is_none()).count();
    let (nodes, reason) = placement.place(&wanted, free);
    let mut nodes = nodes.into_iter();
    let place = |task: &Task| match task.node_id {
        Some(node) => placement.place_on(&node, &wanted).map(|()| node),
        None => nodes.next().ok_or_else(|| reason.clone().unwrap_or_default()),
    };
    of_one_spec.map(place).collect()
}

fn place_new(placement: &mut Placement<'_>, of_one_spec: &mut [Task], now: Timestamp) {
    let places = places(placement, of_one_spec.iter());
    for (task, place) in of_one_spec.iter_mut().zip(places) {
        if let Some(status) = allocated(task, now) {
            task.status = status;
        }
        match place {
            Ok(node) => {
                task.node_id = Some(node);
                task.status = assigned(task, now);
            }
            Err(reason) => task.status.error = reason.to_string(),
        }
    }
}

fn new_task(service: &Service, new: &NewTask, now: Timestamp) -> Task {
    Task {
        id: TaskId::random(),
        meta: Meta::default(),
        service_id: service.id,
        service_name: service.spec.name.clone(),
        slot: new.slot,
        node_id: new.node,
        spec: service.spec.task.clone(),
        spec_version: service.spec_version,
        desired_state: new.desired,
        status: TaskStatus {
            state: TaskState::New,
            since: now,
            message: "created".to_owned(),
            error: String::new(),
            container: None,
            secret_backend: String::new(),
        },
    }
}

fn assigned(task: &Task, now: Timestamp) -> TaskStatus {
    TaskStatus {
        state: TaskState::Assigned,
        since: now,
        message: "scheduler assigned task to node".to_owned(),
        error: String::new(),
        ..task.status.clone()
    }
}
