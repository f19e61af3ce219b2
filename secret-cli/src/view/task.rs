//! Tasks, as `service ps` lists them.

use std::collections::HashMap;

use secretd_proto::v1::{Task, TaskState};
use serde_json::{Value, json};

use super::SHORT_ID;
use crate::format::Column;
use crate::human;

/// The columns of `service ps`.
pub(crate) const COLUMNS: [Column; 7] = [
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Image", "IMAGE"),
    ("Node", "NODE"),
    ("DesiredState", "DESIRED STATE"),
    ("CurrentState", "CURRENT STATE"),
    ("Error", "ERROR"),
];
const ERROR_LENGTH: usize = 30;

/// How a list shows tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Ids and errors in full.
    pub(crate) full: bool,
    /// Replaced tasks hang below the newest one of their slot.
    pub(crate) tree: bool,
}

/// The word of a state.
pub(crate) fn word(state: TaskState) -> &'static str {
    match state {
        TaskState::New => "New",
        TaskState::Pending => "Pending",
        TaskState::Assigned => "Assigned",
        TaskState::Accepted => "Accepted",
        TaskState::Preparing => "Preparing",
        TaskState::Ready => "Ready",
        TaskState::Starting => "Starting",
        TaskState::Running => "Running",
        TaskState::Complete => "Complete",
        TaskState::Shutdown => "Shutdown",
        TaskState::Failed => "Failed",
        TaskState::Rejected => "Rejected",
        TaskState::Remove => "Remove",
        TaskState::Orphaned => "Orphaned",
    }
}

/// `app.1`.
pub(crate) fn name(task: &Task) -> String {
    format!("{}.{}", task.service_name, task.slot)
}

/// Rows of `service ps`, of tasks in the order of slots, newest first. `hosts` has the names of nodes.
pub(crate) fn rows(tasks: &[Task], hosts: &HashMap<String, String>, style: Style) -> Vec<Value> {
    let mut previous = None;
    tasks
        .iter()
        .map(|task| {
            let name = name(task);
            let is_older = style.tree && previous.as_deref() == Some(name.as_str());
            let shown = if is_older { format!(" \\_ {name}") } else { name.clone() };
            previous = Some(name);
            row(task, &shown, hosts, style)
        })
        .collect()
}

fn row(task: &Task, name: &str, hosts: &HashMap<String, String>, style: Style) -> Value {
    let status = task.status.clone().unwrap_or_default();
    let container = task.spec.clone().unwrap_or_default().container.unwrap_or_default();
    let id = if style.full { task.id.clone() } else { task.id.chars().take(SHORT_ID).collect() };
    let image = container.image.split('@').next().unwrap_or_default();
    json!({
        "ID": id,
        "Name": name,
        "Image": if style.full { container.image.as_str() } else { image },
        "Node": hosts.get(&task.node_id).unwrap_or(&task.node_id),
        "DesiredState": word(task.desired_state()),
        "CurrentState": format!("{} {}", word(status.state()), human::ago(status.since.as_ref()).to_lowercase()),
        "Error": error(&status.error, style.full),
    })
}

fn error(error: &str, full: bool) -> String {
    if error.is_empty() {
        return String::new();
    }
    if full || error.chars().count() <= ERROR_LENGTH {
        return format!("\"{error}\"");
    }
    format!("\"{}\u{2026}\"", error.chars().take(ERROR_LENGTH - 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use secretd_proto::v1::{ContainerSpec, TaskSpec, TaskStatus};

    use super::*;
    use crate::format::Format;

    #[test]
    fn replaced_tasks_hang_below_the_newest() {
        let task = |id: &str, slot, state: TaskState, error: &str| Task {
            id: format!("{id}0123456789abcdefghijkl"),
            service_name: "app".to_owned(),
            slot,
            node_id: "n1".to_owned(),
            spec: Some(TaskSpec {
                container: Some(ContainerSpec { image: "app:1@sha256:ab".to_owned(), ..ContainerSpec::default() }),
                ..TaskSpec::default()
            }),
            desired_state: TaskState::Running.into(),
            status: Some(TaskStatus { state: state.into(), error: error.to_owned(), ..TaskStatus::default() }),
            ..Task::default()
        };
        let tasks = [
            task("aaa", 1, TaskState::Running, ""),
            task("bbb", 1, TaskState::Failed, "task: non-zero exit (1)"),
            task("ccc", 2, TaskState::Rejected, "No such image: a-rather-long-name:1"),
        ];
        let hosts = HashMap::from([("n1".to_owned(), "host-1".to_owned())]);
        let rows = rows(&tasks, &hosts, Style { full: false, tree: true });
        let shown: Vec<_> = COLUMNS.iter().filter(|(field, _)| *field != "CurrentState").copied().collect();

        expect_test::expect![[r#"
            ID             NAME        IMAGE   NODE     DESIRED STATE   ERROR
            aaa012345678   app.1       app:1   host-1   Running
            bbb012345678    \_ app.1   app:1   host-1   Running         "task: non-zero exit (1)"
            ccc012345678   app.2       app:1   host-1   Running         "No such image: a-rather-long-…"
        "#]]
        .assert_eq(&Format::Table.list(&shown, &[], &rows).unwrap());
    }
}
