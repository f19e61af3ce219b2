//! A store event in Docker's words. Pure.

use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::service::{Service, ServiceMode, UpdateState};
use secretd_core::task::Task;
use secretd_core::wire::time_to_wire;
use secretd_proto::v1;
use secretd_store::{Change, Event};

/// What people are told; `None` for changes that are of no interest to them.
pub(super) fn event(event: &Event, change: &Change) -> Option<v1::Event> {
    let (kind, action, id, name, attributes) = match event {
        Event::ClusterCreated(cluster) => ("cluster", "create", cluster.id.to_string(), String::new(), vec![]),
        Event::ClusterUpdated { new, .. } => ("cluster", "update", new.id.to_string(), String::new(), vec![]),
        Event::NodeRemoved(node) => ("node", "remove", node.id.to_string(), node.description.hostname.clone(), vec![]),
        Event::SecretCreated(secret) => {
            ("secret", "create", secret.id.to_string(), secret.spec.name.to_string(), vec![])
        }
        Event::SecretUpdated { old, new } => {
            let mut attributes = vec![];
            differ(&mut attributes, "version", &old.version.0, &new.version.0);
            ("secret", "update", new.id.to_string(), new.spec.name.to_string(), attributes)
        }
        Event::SecretRemoved(secret) => {
            ("secret", "remove", secret.id.to_string(), secret.spec.name.to_string(), vec![])
        }
        Event::ServiceCreated(service) => {
            ("service", "create", service.id.to_string(), service.spec.name.to_string(), vec![])
        }
        Event::ServiceUpdated { old, new } => {
            ("service", "update", new.id.to_string(), new.spec.name.to_string(), service_changes(old, new))
        }
        Event::ServiceRemoved(service) => {
            ("service", "remove", service.id.to_string(), service.spec.name.to_string(), vec![])
        }
        Event::TaskCreated(task) => ("task", "create", task.id.to_string(), task_name(task), about(task)),
        Event::TaskUpdated { old, new } => {
            let action = task_action(old, new)?;
            ("task", action, new.id.to_string(), task_name(new), about(new))
        }
        Event::TaskRemoved(task) => ("task", "remove", task.id.to_string(), task_name(task), about(task)),
        Event::NodeCreated(node) => ("node", "create", node.id.to_string(), node.description.hostname.clone(), vec![]),
        Event::NodeUpdated { old, new } => {
            let attributes = node_changes(old, new);
            if attributes.is_empty() && old.labels == new.labels {
                return None; // the node's description of itself
            }
            ("node", "update", new.id.to_string(), new.description.hostname.clone(), attributes)
        }
    };
    let name_attribute = (!name.is_empty()).then(|| ("name".to_owned(), name.clone()));
    Some(v1::Event {
        kind: kind.to_owned(),
        action: action.to_owned(),
        id,
        name,
        attributes: attributes.into_iter().chain(name_attribute).collect(),
        at: Some(time_to_wire(change.at)),
        version: change.version.0,
    })
}

type Attributes = Vec<(String, String)>;

/// Adds `key.old` and `key.new` when the values differ.
fn differ<T: PartialEq + ToString>(attributes: &mut Attributes, key: &str, old: &T, new: &T) {
    if old != new {
        attributes.push((format!("{key}.old"), old.to_string()));
        attributes.push((format!("{key}.new"), new.to_string()));
    }
}

fn service_changes(old: &Service, new: &Service) -> Attributes {
    let mut attributes = vec![];
    differ(&mut attributes, "image", &old.spec.task.container.image, &new.spec.task.container.image);
    if let (ServiceMode::Replicated { replicas: before }, ServiceMode::Replicated { replicas: after }) =
        (old.spec.mode, new.spec.mode)
    {
        differ(&mut attributes, "replicas", &before, &after);
    }
    let word =
        |service: &Service| service.update_status.as_ref().map_or("", |status| update_word(status.state)).to_owned();
    differ(&mut attributes, "updatestate", &word(old), &word(new));
    attributes
}

fn update_word(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    }
}

fn node_changes(old: &Node, new: &Node) -> Attributes {
    let mut attributes = vec![];
    let availability = |node: &Node| match node.availability {
        Availability::Active => "active".to_owned(),
        Availability::Pause => "pause".to_owned(),
        Availability::Drain => "drain".to_owned(),
    };
    let state = |node: &Node| match node.state {
        NodeState::Unknown => "unknown".to_owned(),
        NodeState::Ready => "ready".to_owned(),
        NodeState::Down => "down".to_owned(),
        NodeState::Disconnected => "disconnected".to_owned(),
    };
    let role = |node: &Node| if node.manager { "manager".to_owned() } else { "worker".to_owned() };
    differ(&mut attributes, "availability", &availability(old), &availability(new));
    differ(&mut attributes, "state", &state(old), &state(new));
    differ(&mut attributes, "role", &role(old), &role(new));
    attributes
}

fn task_name(task: &Task) -> String {
    format!("{}.{}", task.service_name, task.slot)
}

/// The state that a task has reached, or that it is told to stop.
fn task_action(old: &Task, new: &Task) -> Option<&'static str> {
    use secretd_core::task::TaskState::{
        Accepted, Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Ready, Rejected, Remove, Running,
        Shutdown, Starting,
    };
    if old.status.state == new.status.state {
        return None;
    }
    Some(match new.status.state {
        New => "new",
        Pending => "pending",
        Assigned => "assigned",
        Accepted => "accepted",
        Preparing => "preparing",
        Ready => "ready",
        Starting => "starting",
        Running => "running",
        Complete => "complete",
        Shutdown => "shutdown",
        Failed => "failed",
        Rejected => "rejected",
        Remove => "remove",
        Orphaned => "orphaned",
    })
}

fn about(task: &Task) -> Attributes {
    let mut attributes = vec![
        ("service".to_owned(), task.service_id.to_string()),
        ("slot".to_owned(), task.slot.to_string()),
        ("image".to_owned(), task.spec.container.image.clone()),
    ];
    attributes.extend(task.node_id.map(|node| ("node".to_owned(), node.to_string())));
    if let Some(container) = task.status.container.as_ref().filter(|_| task.status.state.is_terminal()) {
        attributes.push(("exitCode".to_owned(), container.exit_code.to_string()));
    }
    attributes
}
