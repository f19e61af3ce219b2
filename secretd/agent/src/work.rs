//! Logs and commands that a manager asks this node for, each over a call of its own.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::SelectAll;
use secretd_core::seam::runtime::{
    ContainerError, ExecInput, ExecOutput, ExecSession, ExecSpec, LogLine, LogOptions, Runtime,
};
use secretd_core::time::Timestamp;
use secretd_core::wire::time_to_wire;
use secretd_proto::code::Code;
use secretd_proto::id::TaskId;
use secretd_proto::shim::Step;
use secretd_proto::v1;
use secretd_proto::v1::dispatcher_client::DispatcherClient;
use secretd_proto::v1::work_output::Output;
use secretd_proto::v1::work_request::Work;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Messages that wait for the manager; the log or command then waits too.
const CHANNEL: usize = 32;

type Outputs = mpsc::Sender<v1::WorkOutput>;

/// Why a piece of work could not be done.
struct Failure(Code, String);

/// Carries out one piece of work, and tells its end.
pub(crate) async fn carry_out(
    mut client: DispatcherClient<Channel>,
    request: v1::WorkRequest,
    runtime: Arc<dyn Runtime>,
) {
    let (outputs, stream) = mpsc::channel(CHANNEL);
    let id = request.work_id;
    let started = v1::WorkOutput { work_id: id.clone(), output: Some(Output::Started(true)) };
    if outputs.send(started).await.is_err() {
        return;
    }
    let inputs = match client.work(ReceiverStream::new(stream)).await {
        Ok(inputs) => inputs.into_inner(),
        Err(status) => {
            tracing::debug!(work = %id, %status, "a piece of work is not wanted any more");
            return;
        }
    };
    let done = match request.work {
        Some(Work::Logs(logs)) => self::logs(logs, &id, runtime.as_ref(), inputs, &outputs).await,
        Some(Work::Exec(exec)) => self::exec(exec, &id, runtime.as_ref(), inputs, &outputs).await,
        None => Err(Failure(Code::Unsupported, "this node's release does not know what it is asked for".to_owned())),
    };
    let last = match done {
        Ok(()) => Output::Done(true),
        Err(Failure(code, message)) => Output::Failed(v1::WorkFailure { code: code.as_str().to_owned(), message }),
    };
    let _ = outputs.send(v1::WorkOutput { work_id: id, output: Some(last) }).await; // nobody may listen any more
    // The call ends when the stream is dropped; what was sent before is on its way until then.
    tokio::time::timeout(Duration::from_secs(10), outputs.closed()).await.ok();
}

fn failure(error: &ContainerError) -> Failure {
    let code = match error {
        ContainerError::NotFound(_) => Code::NotFound,
        ContainerError::ShimGone(_) => Code::NotRunning,
        ContainerError::Shim(failure) if failure.step == Step::State => Code::NotRunning,
        ContainerError::Shim(_) => Code::InvalidArgument,
        ContainerError::Node { .. } => Code::Internal,
    };
    Failure(code, error.to_string())
}

async fn logs(
    work: v1::LogsWork,
    id: &str,
    runtime: &dyn Runtime,
    mut inputs: Streaming<v1::WorkInput>,
    outputs: &Outputs,
) -> Result<(), Failure> {
    let options = LogOptions {
        follow: work.follow,
        tail: u64::try_from(work.tail).ok(),
        since: (work.since_unix_nanos != 0).then_some(Timestamp(work.since_unix_nanos)),
    };
    let mut all = SelectAll::new();
    for text in work.task_ids {
        let task: TaskId = text.parse().map_err(|error| Failure(Code::InvalidArgument, format!("{error}")))?;
        match runtime.logs(&task, options).await {
            Ok(stream) => all.push(stream.map(move |line| (text.clone(), line)).boxed()),
            Err(ContainerError::NotFound(_)) => {} // it has written nothing yet, or its log is gone
            Err(error) => return Err(failure(&error)),
        }
    }
    loop {
        let (task, line) = tokio::select! {
            line = all.next() => match line {
                Some(line) => line,
                None => return Ok(()),
            },
            input = inputs.message() => match input {
                Ok(Some(_)) | Ok(None) | Err(_) => return Ok(()), // cancelled: a log takes no other input
            },
        };
        let output = Output::Log(record(task, line.map_err(|error| failure(&error))?));
        let message = v1::WorkOutput { work_id: id.to_owned(), output: Some(output) };
        if outputs.send(message).await.is_err() {
            return Ok(());
        }
    }
}

/// Names of service, slot and node are the manager's to fill in.
fn record(task_id: String, line: LogLine) -> v1::LogRecord {
    let stream = if line.stderr { v1::log_record::Stream::Stderr } else { v1::log_record::Stream::Stdout };
    v1::LogRecord {
        task_id,
        stream: stream.into(),
        at: Some(time_to_wire(line.at)),
        line: line.line,
        ..v1::LogRecord::default()
    }
}

async fn exec(
    work: v1::ExecWork,
    id: &str,
    runtime: &dyn Runtime,
    mut inputs: Streaming<v1::WorkInput>,
    outputs: &Outputs,
) -> Result<(), Failure> {
    let task: TaskId = work.task_id.parse().map_err(|error| Failure(Code::InvalidArgument, format!("{error}")))?;
    let start = work.start.unwrap_or_default();
    let size = |size: v1::TerminalSize| {
        (u16::try_from(size.rows).unwrap_or(u16::MAX), u16::try_from(size.columns).unwrap_or(u16::MAX))
    };
    let spec = ExecSpec {
        args: start.args,
        env: start.env,
        user: start.user,
        workdir: start.workdir,
        interactive: start.interactive,
        tty: start.tty,
        size: start.size.map(size),
    };
    let ExecSession { input, mut output } = runtime.exec(&task, spec).await.map_err(|error| failure(&error))?;
    let carry_in = async {
        while let Ok(Some(message)) = inputs.message().await {
            let Some(v1::work_input::Input::Exec(v1::ExecInput { input: Some(message) })) = message.input else {
                break;
            };
            let sent = match message {
                v1::exec_input::Input::Stdin(bytes) => ExecInput::Stdin(bytes),
                v1::exec_input::Input::StdinClosed(_) => ExecInput::StdinClosed,
                v1::exec_input::Input::Resize(wanted) => {
                    let (rows, columns) = size(wanted);
                    ExecInput::Resize(rows, columns)
                }
                v1::exec_input::Input::Signal(signal) => ExecInput::Signal(i32::try_from(signal).unwrap_or_default()),
                v1::exec_input::Input::Start(_) => break,
            };
            if input.send(sent).await.is_err() {
                std::future::pending::<()>().await; // the command has ended: its last output is on the way
            }
        }
    };
    let carry_out = async {
        while let Some(message) = output.recv().await {
            let message = match message {
                ExecOutput::Stdout(bytes) => v1::exec_output::Output::Stdout(bytes),
                ExecOutput::Stderr(bytes) => v1::exec_output::Output::Stderr(bytes),
                ExecOutput::Exited(code) => v1::exec_output::Output::ExitCode(code),
            };
            let output = Output::Exec(v1::ExecOutput { output: Some(message) });
            if outputs.send(v1::WorkOutput { work_id: id.to_owned(), output: Some(output) }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = carry_out => {}
        () = carry_in => {} // cancelled: dropping the session ends the command
    }
    Ok(())
}
