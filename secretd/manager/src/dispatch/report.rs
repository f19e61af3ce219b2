//! What nodes say of their tasks. Late and repeated reports are normal, and change nothing.

use secretd_core::task::TaskStatus;
use secretd_proto::code::Code;
use secretd_proto::id::{NodeId, TaskId};
use secretd_proto::v1;
use secretd_store::{Op, ProposeError, Store, View};

use crate::refusal::Refusal;

/// Attempts when tasks change while they are reported on.
const ATTEMPTS: usize = 5;

/// Records a node's reports, all in one proposal.
pub(crate) async fn record(store: &Store, node: NodeId, updates: Vec<v1::TaskStatusUpdate>) -> Result<(), Refusal> {
    let reports = updates.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..ATTEMPTS {
        let ops = news(&store.view(), node, &reports)?;
        if ops.is_empty() {
            return Ok(());
        }
        match store.propose(ops).await {
            Ok(_) => return Ok(()),
            Err(ProposeError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::new(Code::OutOfSequence, "the tasks change too fast: report again"))
}

fn parse(update: v1::TaskStatusUpdate) -> Result<(TaskId, TaskStatus), Refusal> {
    let id = update.task_id.parse().map_err(Refusal::invalid)?;
    let status = update.status.ok_or_else(|| Refusal::invalid(format!("task {id} has no status")))?;
    Ok((id, TaskStatus::try_from(status)?))
}

/// The reports that say something new.
fn news(view: &View, node: NodeId, reports: &[(TaskId, TaskStatus)]) -> Result<Vec<Op>, Refusal> {
    let mut ops = Vec::new();
    for (id, status) in reports {
        let Some(task) = view.task(id) else { continue }; // removed meanwhile
        if task.node_id != Some(node) {
            return Err(Refusal::new(Code::PermissionDenied, format!("task {id} is not on node {node}")));
        }
        if task.status.state.advance(status.state).is_ok() && task.status != *status {
            ops.push(Op::UpdateTaskStatus { id: *id, node: Some(node), status: status.clone() });
        }
    }
    Ok(ops)
}
