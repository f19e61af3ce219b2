//! Operations on tasks. Observed and desired states only grow.

use std::sync::Arc;

use secretd_core::task::{Task, TaskState, TaskStatus};
use secretd_proto::id::{NodeId, TaskId};

use super::Transaction;
use crate::conflict::{Conflict, ObjectKind};
use crate::event::Event;
use crate::state::{Record, RecordKey};

impl Transaction {
    pub(super) fn create_task(&mut self, task: &Task) -> Result<(), Conflict> {
        if self.state.tasks.contains_key(&task.id) {
            return Err(Conflict::IdTaken { kind: ObjectKind::Task, id: task.id.to_string() });
        }
        if !self.state.services.contains_key(&task.service_id) {
            return Err(Conflict::NotFound { kind: ObjectKind::Service, id: task.service_id.to_string() });
        }
        if let Some(node) = task.node_id {
            self.check_node(node)?;
        }
        self.check_grants(&task.spec)?;
        let task = Arc::new(Task { meta: self.meta_created(), ..task.clone() });
        self.put(Record::Task(Arc::clone(&task)));
        self.events.push(Event::TaskCreated(task));
        Ok(())
    }

    pub(super) fn update_task_status(
        &mut self,
        id: TaskId,
        node: Option<NodeId>,
        status: &TaskStatus,
    ) -> Result<(), Conflict> {
        let old = self.task(id)?;
        if old.node_id != node {
            return Err(Conflict::NotAtNode { id, node });
        }
        old.status.state.advance(status.state).map_err(|regression| Conflict::TaskRegression { id, regression })?;
        let new = Task { status: status.clone(), ..Task::clone(&old) };
        self.replace_task(&old, new);
        Ok(())
    }

    pub(super) fn set_task_desired(&mut self, id: TaskId, state: TaskState) -> Result<(), Conflict> {
        let old = self.task(id)?;
        let desired = old.desired_state.advance(state);
        let desired_state = desired.map_err(|regression| Conflict::TaskRegression { id, regression })?;
        let new = Task { desired_state, ..Task::clone(&old) };
        self.replace_task(&old, new);
        Ok(())
    }

    pub(super) fn assign_task(&mut self, id: TaskId, node: NodeId) -> Result<(), Conflict> {
        let old = self.task(id)?;
        self.check_node(node)?;
        // A task of a global service has its node from the start.
        let other = old.node_id.is_some_and(|own| own != node || old.status.state == TaskState::Assigned);
        if other || old.status.state > TaskState::Assigned {
            return Err(Conflict::NotAssignable { id, state: old.status.state });
        }
        let status = TaskStatus {
            state: TaskState::Assigned,
            since: self.at,
            message: "scheduler assigned task to node".to_owned(),
            error: String::new(),
            ..old.status.clone()
        };
        let new = Task { node_id: Some(node), status, ..Task::clone(&old) };
        self.replace_task(&old, new);
        Ok(())
    }

    pub(super) fn remove_task(&mut self, id: TaskId) -> Result<(), Conflict> {
        let task = self.task(id)?;
        self.remove(RecordKey::Task(id));
        self.release_grants(&task.spec);
        self.events.push(Event::TaskRemoved(task));
        Ok(())
    }

    fn replace_task(&mut self, old: &Arc<Task>, mut new: Task) {
        if new == **old {
            return;
        }
        new.meta = self.meta_updated(old.meta);
        let new = Arc::new(new);
        self.put(Record::Task(Arc::clone(&new)));
        self.events.push(Event::TaskUpdated { old: Arc::clone(old), new });
    }

    fn check_node(&self, id: NodeId) -> Result<(), Conflict> {
        if self.state.nodes.contains_key(&id) {
            return Ok(());
        }
        Err(Conflict::NotFound { kind: ObjectKind::Node, id: id.to_string() })
    }

    fn task(&self, id: TaskId) -> Result<Arc<Task>, Conflict> {
        let found = self.state.tasks.get(&id).cloned();
        found.ok_or_else(|| Conflict::NotFound { kind: ObjectKind::Task, id: id.to_string() })
    }
}
