//! Logs of services and tasks: what the nodes of the tasks have, as one stream.
//!
//! Nodes that are not connected do not hold up the others; the stream ends with an error that names them. With `follow`,
//! tasks that start later are followed too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered, SelectAll};
use secretd_core::task::{Task, TaskState};
use secretd_core::wire::time_from_wire;
use secretd_proto::code::Code;
use secretd_proto::id::{NodeId, ServiceId, TaskId};
use secretd_proto::v1;
use secretd_proto::v1::work_output::Output;
use secretd_store::{Change, Event, View, Watch};
use tonic::Status;

use super::{Context, Messages, services, tasks};
use crate::dispatch::broker::{Broker, Joined, failure};
use crate::refusal::Refusal;

pub(super) async fn follow(
    context: &Context,
    request: v1::ServiceLogsRequest,
) -> Result<Messages<v1::LogRecord>, Refusal> {
    context.view()?;
    if request.tail < -1 {
        return Err(Refusal::invalid(format!(
            "invalid value {} of --tail: give a number from 0, or all",
            request.tail
        )));
    }
    let (view, watch) = context.store.view_and_watch();
    let scope = Scope::find(&view, &request.reference)?;
    scope.check_driver(&view)?;
    let mut logs = Logs {
        broker: context.broker.clone(),
        hosts: Hosts::default(),
        scope,
        options: v1::LogsWork {
            task_ids: vec![],
            follow: request.follow,
            tail: request.tail,
            since_unix_nanos: request.since.map_or(0, |since| time_from_wire(Some(since)).0),
        },
        asked: BTreeSet::new(),
        streams: SelectAll::new(),
        missing: BTreeMap::new(),
        watch: request.follow.then_some(watch),
    };
    logs.ask_for(&view, &logs.due(&view)).await;
    Ok(Box::pin(stream::unfold(Some(logs), |logs| async {
        let mut logs = logs?;
        match logs.next().await? {
            Ok(record) => Some((Ok(record), Some(logs))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

/// Whose logs.
enum Scope {
    Service(ServiceId),
    Task(TaskId),
}

impl Scope {
    fn find(view: &View, reference: &str) -> Result<Self, Refusal> {
        if let Ok(service) = services::find(view, reference) {
            return Ok(Self::Service(service.id));
        }
        match tasks::find(view, reference) {
            Ok(task) => Ok(Self::Task(task.id)),
            Err(refusal) if refusal.code == Code::NotFound => {
                Err(Refusal::new(Code::NotFound, format!("no such task or service: {reference}")))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Refuses where nothing is kept that could be read.
    fn check_driver(&self, view: &View) -> Result<(), Refusal> {
        let driver = match self {
            Self::Service(id) => view.service(id).map(|service| &service.spec.task.log.driver),
            Self::Task(id) => view.task(id).map(|task| &task.spec.log.driver),
        };
        if driver.is_none_or(|driver| driver != "none") {
            return Ok(());
        }
        let message = "the log driver none keeps no log: use --log-driver json-file to have one";
        Err(Refusal::new(Code::Unsupported, message))
    }
}

type Stream = Messages<v1::LogRecord>;

/// Names of nodes, for messages.
#[derive(Default)]
struct Hosts(BTreeMap<NodeId, String>);

struct Logs {
    broker: Broker,
    hosts: Hosts,
    scope: Scope,
    options: v1::LogsWork,
    asked: BTreeSet<TaskId>,
    streams: SelectAll<Stream>,
    /// Nodes whose logs are missing, and why.
    missing: BTreeMap<NodeId, String>,
    /// Only with `follow`.
    watch: Option<Watch>,
}

impl Logs {
    /// The tasks that have a log and were not asked for.
    fn due(&self, view: &View) -> BTreeMap<NodeId, Vec<TaskId>> {
        let tasks: Vec<&Arc<Task>> = match &self.scope {
            Scope::Service(service) => view.tasks_of_service(service).collect(),
            Scope::Task(task) => view.task(task).into_iter().collect(),
        };
        let mut by_node: BTreeMap<NodeId, Vec<TaskId>> = BTreeMap::new();
        for task in tasks.into_iter().filter(|task| has_log(task) && !self.asked.contains(&task.id)) {
            if let Some(node) = task.node_id {
                by_node.entry(node).or_default().push(task.id);
            }
        }
        by_node
    }

    async fn ask_for(&mut self, view: &View, due: &BTreeMap<NodeId, Vec<TaskId>>) {
        let names = view.nodes().map(|node| (node.id, node.description.hostname.clone()));
        self.hosts.0.extend(names);
        let mut asking: FuturesUnordered<_> = due
            .iter()
            .map(|(node, tasks)| {
                let host = self.hosts.0.get(node).cloned().unwrap_or_else(|| node.to_string());
                let task_ids = tasks.iter().map(ToString::to_string).collect();
                let work = v1::LogsWork { task_ids, ..self.options.clone() };
                let broker = self.broker.clone();
                async move { (*node, broker.start(*node, &host, v1::work_request::Work::Logs(work)).await) }
            })
            .collect();
        let mut answers = Vec::new();
        while let Some(answer) = asking.next().await {
            answers.push(answer);
        }
        drop(asking);
        for (node, answer) in answers {
            match answer {
                Ok(joined) => self.streams.push(records(joined, labels(view, due.get(&node)))),
                Err(refusal) => drop(self.missing.insert(node, refusal.message)),
            }
        }
        self.asked.extend(due.values().flatten());
        // Tasks that start while their log is followed are followed from their first line.
        self.options.tail = -1;
    }

    async fn next(&mut self) -> Option<Result<v1::LogRecord, Status>> {
        loop {
            let Some(watch) = &mut self.watch else {
                return match self.streams.next().await {
                    Some(record) => Some(record),
                    None => self.end(),
                };
            };
            let change = tokio::select! {
                biased;
                Some(record) = self.streams.next() => return Some(record), // cancel-safe: nothing is taken before it is returned
                change = watch.next() => change, // cancel-safe, says Watch
            };
            match change {
                Some(change) if self.is_over(&change) => self.watch = None,
                Some(change) => {
                    let due = if concerns(&change) { self.due(&change.view) } else { BTreeMap::new() };
                    if !due.is_empty() {
                        self.ask_for(&change.view, &due).await;
                    }
                }
                None => self.watch = None,
            }
        }
    }

    /// Whether nothing can be logged any more.
    fn is_over(&self, change: &Change) -> bool {
        match &self.scope {
            Scope::Service(service) => {
                change.view.service(service).is_none() && change.view.tasks_of_service(service).next().is_none()
            }
            Scope::Task(task) => change.view.task(task).is_none_or(|task| task.status.state.is_terminal()),
        }
    }

    fn end(&mut self) -> Option<Result<v1::LogRecord, Status>> {
        if self.missing.is_empty() {
            return None;
        }
        let reasons: Vec<String> = std::mem::take(&mut self.missing).into_values().collect();
        let message = format!(
            "incomplete log stream. some logs could not be retrieved for the following reasons: {}",
            reasons.join(", ")
        );
        Some(Err(Refusal::new(Code::RemoteUnreachable, message).into()))
    }
}

fn concerns(change: &Change) -> bool {
    change.events.iter().any(|event| matches!(event, Event::TaskUpdated { .. } | Event::TaskCreated(_)))
}

/// Whether the task's container was made: before that there is no log.
fn has_log(task: &Task) -> bool {
    let state = task.status.state;
    (TaskState::Ready..=TaskState::Running).contains(&state) || (state.is_terminal() && task.status.container.is_some())
}

/// What people are told of a line's task.
struct Label {
    service: String,
    slot: u64,
    host: String,
}

fn labels(view: &View, tasks: Option<&Vec<TaskId>>) -> BTreeMap<String, Label> {
    let tasks = tasks.into_iter().flatten().filter_map(|id| view.task(id));
    let label = |task: &Task| Label {
        service: task.service_name.to_string(),
        slot: task.slot,
        host: task
            .node_id
            .and_then(|node| view.node(&node))
            .map(|node| node.description.hostname.clone())
            .unwrap_or_default(),
    };
    tasks.map(|task| (task.id.to_string(), label(task))).collect()
}

/// The records of one piece of work, labelled by the manager: a node knows its tasks' ids.
fn records(joined: Joined, labels: BTreeMap<String, Label>) -> Stream {
    Box::pin(stream::unfold(Some((joined, labels)), |state| async {
        let (mut joined, labels) = state?;
        loop {
            let output = match joined.outputs.message().await {
                Ok(Some(output)) => output.output,
                Ok(None) => return None,
                Err(status) => {
                    let message = format!("incomplete log stream: the node's agent is gone: {}", status.message());
                    return Some((Err(Refusal::new(Code::RemoteUnreachable, message).into()), None));
                }
            };
            match output {
                Some(Output::Log(mut record)) => {
                    if let Some(label) = labels.get(&record.task_id) {
                        record.service_name.clone_from(&label.service);
                        record.slot = label.slot;
                        record.node.clone_from(&label.host);
                    }
                    return Some((Ok(record), Some((joined, labels))));
                }
                Some(Output::Failed(failed)) => return Some((Err(failure(&failed).into()), None)),
                Some(Output::Done(_)) => return None,
                Some(Output::Started(_) | Output::Exec(_)) | None => {}
            }
        }
    }))
}
