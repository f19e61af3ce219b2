//! Whether what runs is what the state asks for: every task of every service, where it is assigned, with its secrets, and
//! nothing else anywhere.

use std::collections::BTreeSet;

use secretd_core::service::ServiceMode;
use secretd_core::task::{Task, TaskState};
use secretd_proto::id::TaskId;
use secretd_store::View;

use crate::node::Node;
use crate::operator::value;
use crate::part::Part;

/// Whether the cluster's nodes do what `view` asks for.
pub(crate) fn settled(view: &View, nodes: &[Node]) -> bool {
    services_have_their_tasks(view) && nodes.iter().all(|node| runs_what_is_assigned(view, node))
}

fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Running
}

fn services_have_their_tasks(view: &View) -> bool {
    view.services().all(|service| {
        let wanted = view.tasks_of_service(&service.id).filter(|task| is_wanted(task));
        let states: Vec<TaskState> = wanted.map(|task| task.status.state).collect();
        let enough = match service.spec.mode {
            ServiceMode::Replicated { replicas } => u64::try_from(states.len()).unwrap() == replicas,
            ServiceMode::Global => true,
        };
        enough && states.iter().all(|state| *state == TaskState::Running)
    })
}

fn runs_what_is_assigned(view: &View, node: &Node) -> bool {
    let Part::Worker { mount, .. } = &node.part else { return true };
    let wanted: Vec<_> = view.tasks_of_node(&node.id).filter(|task| is_wanted(task)).collect();
    let ids: BTreeSet<TaskId> = wanted.iter().map(|task| task.id).collect();
    let running: BTreeSet<TaskId> = node.containers().into_iter().collect();
    let readable = mount.readable();
    let granted = wanted.iter().filter(|task| !task.spec.container.secrets.is_empty());
    let reads: BTreeSet<TaskId> = granted.clone().map(|task| task.id).collect();
    let secrets: BTreeSet<_> =
        granted.clone().flat_map(|task| task.spec.container.secrets.iter().map(|grant| grant.secret)).collect();
    let newest = |task: &Task| {
        let grants = task.spec.container.secrets.iter();
        let mut expected = grants.filter_map(|grant| {
            let secret = view.secret(&grant.secret)?;
            Some((secret.id, secret.version.0, value(secret.spec.name.as_str(), secret.version.0)))
        });
        expected.all(|expected| readable.get(&task.id).is_some_and(|read| read.contains(&expected)))
    };
    running == ids
        && readable.keys().copied().collect::<BTreeSet<_>>() == reads
        && granted.clone().all(|task| newest(task))
        && mount.kept().is_subset(&secrets)
}
