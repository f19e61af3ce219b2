//! A task stays with the node that it was assigned to: its container runs there and nowhere else, once.

use std::collections::BTreeMap;

use secretd_proto::id::{NodeId, TaskId};

use super::{Invariant, Sight};

#[derive(Debug, Default)]
pub(super) struct Placement(BTreeMap<TaskId, NodeId>);

impl Invariant for Placement {
    fn name(&self) -> &'static str {
        "a task runs on the node that it was assigned to, and on no other"
    }

    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        for task in sight.nodes.iter().flat_map(|node| node.view.tasks()) {
            let Some(node) = task.node_id else { continue };
            let assigned = *self.0.entry(task.id).or_insert(node);
            if assigned != node {
                return Err(format!("task {} went from node {assigned} to {node}", task.id));
            }
        }
        for worker in sight.workers {
            for task in worker.containers() {
                if self.0.get(&task).is_some_and(|assigned| *assigned != worker.id) {
                    return Err(format!("task {task} runs on node {}, which it was not assigned to", worker.index));
                }
            }
        }
        Ok(())
    }
}
