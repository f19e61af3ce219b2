//! Commands in running containers: the caller's stream and the agent's, joined.

use std::sync::Arc;

use futures::stream;
use secretd_core::task::{Task, TaskState};
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::exec_input::Input;
use secretd_proto::v1::work_output::Output;
use secretd_store::View;
use tonic::{Status, Streaming};

use super::{Context, Messages, services, tasks};
use crate::audit::record;
use crate::caller::Caller;
use crate::dispatch::broker::{Joined, failure};
use crate::orchestrate::slot::is_live;
use crate::refusal::Refusal;

pub(super) async fn start(
    context: &Context,
    peer: Option<Caller>,
    mut input: Streaming<v1::ExecInput>,
) -> Result<Messages<v1::ExecOutput>, Status> {
    let first = input.message().await?.and_then(|first| first.input);
    let Some(Input::Start(start)) = first else {
        return Err(Refusal::invalid("the first message must say what to run").into());
    };
    let task = find(&context.view()?, &start)?;
    let joined = record(peer, "task.exec", task.id, join(context, &task, start).await)?;
    let session = Session { joined, input: Some(input), held: None };
    Ok(Box::pin(stream::unfold(Some(session), |session| async {
        let mut session = session?;
        match session.next().await? {
            Ok(output) => Some((Ok(output), Some(session))),
            Err(status) => Some((Err(status), None)),
        }
    })))
}

/// A running task: by id, `service.slot`, or the only one of a service.
fn find(view: &View, start: &v1::ExecStart) -> Result<Arc<Task>, Refusal> {
    if start.args.is_empty() {
        return Err(Refusal::invalid("there is no command to run"));
    }
    let task = match services::find(view, &start.reference) {
        Ok(service) => {
            let live: Vec<&Arc<Task>> = view.tasks_of_service(&service.id).filter(|task| is_running(task)).collect();
            match live.as_slice() {
                [only] => *only,
                [] => return Err(not_running(&format!("service {}", service.spec.name))),
                several => {
                    let name = &service.spec.name;
                    let first = several.iter().map(|task| task.slot).min().unwrap_or(1);
                    let message = format!(
                        "service {name} has {} running tasks: name one of them, as {name}.{first}",
                        several.len()
                    );
                    return Err(Refusal::new(Code::Ambiguous, message));
                }
            }
        }
        Err(_) => tasks::find(view, &start.reference)?,
    };
    if is_running(task) { Ok(Arc::clone(task)) } else { Err(not_running(&format!("task {}", start.reference))) }
}

fn is_running(task: &Task) -> bool {
    task.status.state == TaskState::Running && is_live(task)
}

fn not_running(what: &str) -> Refusal {
    Refusal::new(Code::NotRunning, format!("{what} is not running: see what it does with \"sctl service ps\""))
}

async fn join(context: &Context, task: &Task, start: v1::ExecStart) -> Result<Joined, Refusal> {
    let view = context.view()?;
    let node = task.node_id.and_then(|node| view.node(&node));
    let node = node.ok_or_else(|| not_running(&format!("task {}", task.id)))?;
    let work = v1::ExecWork { task_id: task.id.to_string(), start: Some(start) };
    let host = &node.description.hostname;
    context.broker.start(node.id, host, v1::work_request::Work::Exec(work)).await
}

struct Session {
    joined: Joined,
    /// `None` once the caller has closed its side.
    input: Option<Streaming<v1::ExecInput>>,
    /// A message that the agent has no room for yet.
    held: Option<v1::WorkInput>,
}

enum Step {
    FromAgent(Result<Option<v1::WorkOutput>, Status>),
    FromCaller(Result<Option<v1::ExecInput>, Status>),
    Sent,
    AgentClosed,
}

impl Session {
    /// The next output. Input goes on meanwhile; neither direction waits for the other.
    async fn next(&mut self) -> Option<Result<v1::ExecOutput, Status>> {
        loop {
            match self.step().await {
                Step::FromAgent(Ok(Some(output))) => match output.output {
                    Some(Output::Exec(output)) => return Some(Ok(output)),
                    Some(Output::Failed(failed)) => return Some(Err(failure(&failed).into())),
                    Some(Output::Done(_)) => return None,
                    Some(Output::Started(_) | Output::Log(_)) | None => {}
                },
                Step::FromAgent(Ok(None)) => return None,
                Step::FromAgent(Err(status)) => return Some(Err(lost(&status))),
                Step::FromCaller(Ok(Some(input))) => {
                    self.held = Some(v1::WorkInput { input: Some(v1::work_input::Input::Exec(input)) });
                }
                Step::FromCaller(Ok(None)) => {
                    self.input = None;
                    let closed = v1::ExecInput { input: Some(Input::StdinClosed(true)) };
                    self.held = Some(v1::WorkInput { input: Some(v1::work_input::Input::Exec(closed)) });
                }
                Step::FromCaller(Err(_)) => return None, // the caller is gone; dropping `joined` cancels
                Step::Sent => {}
                Step::AgentClosed => {
                    self.input = None;
                    self.held = None;
                }
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Self { joined, input, held } = self;
        let (has_held, takes_input) = (held.is_some(), held.is_none() && input.is_some());
        let caller = async {
            match input {
                Some(input) => input.message().await,
                None => std::future::pending().await,
            }
        };
        // Every arm is cancel-safe: messages are taken whole or stay where they are.
        tokio::select! {
            output = joined.outputs.message() => Step::FromAgent(output),
            message = caller, if takes_input => Step::FromCaller(message),
            permit = joined.inputs.reserve(), if has_held => match (permit, held.take()) {
                (Ok(permit), Some(message)) => {
                    permit.send(message);
                    Step::Sent
                }
                (Ok(_), None) => Step::Sent,
                (Err(_), _) => Step::AgentClosed,
            },
        }
    }
}

fn lost(status: &Status) -> Status {
    Refusal::new(Code::RemoteUnreachable, format!("the node's agent is gone: {}", status.message())).into()
}
