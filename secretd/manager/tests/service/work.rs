//! Logs and commands: calls that a node answers.

use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::exec_input::Input;
use secretd_proto::v1::exec_output::Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::agent::Agent;
use crate::harness::{World, refused, replicas, spec, within};

fn logs(reference: &str, follow: bool) -> v1::ServiceLogsRequest {
    v1::ServiceLogsRequest { reference: reference.to_owned(), follow, tail: 7, since: None }
}

async fn lines(stream: &mut Streaming<v1::LogRecord>, n: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < n {
        let record = within(stream.message()).await.unwrap().unwrap();
        lines.push(String::from_utf8(record.line).unwrap());
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn logs_of_all_tasks_come_as_one_stream() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 2, "app:1")).await.unwrap();
    world.until_running("web", 2).await;

    let mut stream = world.control().service_logs(logs("web", false)).await.unwrap().into_inner();
    assert_eq!(lines(&mut stream, 2).await, ["tail 7\n", "tail 7\n"]);
    assert!(within(stream.message()).await.unwrap().is_none());

    let mut stream = world.control().service_logs(logs("web.2", false)).await.unwrap().into_inner();
    let record = within(stream.message()).await.unwrap().unwrap();
    assert_eq!((record.service_name.as_str(), record.slot, record.node.as_str()), ("web", 2, "here"));
    assert!(within(stream.message()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn followed_logs_take_in_tasks_that_start_later_and_end_with_the_service() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.until_running("web", 1).await;
    let mut stream = world.control().service_logs(logs("web", true)).await.unwrap().into_inner();
    assert_eq!(lines(&mut stream, 1).await, ["tail 7\n"]);

    world.update_service("web", |spec| replicas(spec, 2)).await;

    assert_eq!(lines(&mut stream, 1).await, ["tail -1\n"]);
}

#[tokio::test(start_paused = true)]
async fn logs_of_a_node_that_is_away_are_said_to_be_missing() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.until_running("web", 1).await;
    agent.vanish().await;

    let mut stream = world.control().service_logs(logs("web", false)).await.unwrap().into_inner();
    let (code, message) = refused(within(stream.message()).await);

    assert_eq!(code, Code::RemoteUnreachable);
    assert_eq!(
        message,
        "incomplete log stream. some logs could not be retrieved for the following reasons: node here is not available"
    );
}

async fn exec(
    world: &World,
    start: v1::ExecStart,
) -> Result<(mpsc::Sender<v1::ExecInput>, Streaming<v1::ExecOutput>), Status> {
    let (tx, rx) = mpsc::channel(4);
    tx.send(v1::ExecInput { input: Some(Input::Start(start)) }).await.unwrap();
    Ok((tx, world.control().exec(ReceiverStream::new(rx)).await?.into_inner()))
}

fn start(reference: &str, command: &str) -> v1::ExecStart {
    v1::ExecStart { reference: reference.to_owned(), args: vec![command.to_owned()], ..v1::ExecStart::default() }
}

async fn output(stream: &mut Streaming<v1::ExecOutput>) -> Option<Output> {
    within(stream.message()).await.unwrap().and_then(|output| output.output)
}

#[tokio::test(start_paused = true)]
async fn command_gets_its_input_and_gives_output_and_exit_code() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.until_running("web", 1).await;

    for reference in ["web", "web.1"] {
        let (tx, mut stream) = exec(&world, start(reference, "cat")).await.unwrap();
        tx.send(v1::ExecInput { input: Some(Input::Stdin(b"abc".to_vec())) }).await.unwrap();
        if reference == "web" {
            tx.send(v1::ExecInput { input: Some(Input::StdinClosed(true)) }).await.unwrap();
        } else {
            drop(tx); // says the same
        }

        assert_eq!(output(&mut stream).await, Some(Output::Stdout(b"abc".to_vec())));
        assert_eq!(output(&mut stream).await, Some(Output::ExitCode(i32::from(b'c'))));
        assert_eq!(output(&mut stream).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn failure_of_the_node_comes_through_with_its_code() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.until_running("web", 1).await;
    let (_tx, mut stream) = exec(&world, start("web.1", "fail")).await.unwrap();

    let refusal = refused(within(stream.message()).await);

    assert_eq!(refusal, (Code::NotFound, "fail: no such file".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn commands_need_one_running_task_on_a_node_that_is_there() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 2, "app:1")).await.unwrap();
    world.create_service(spec("idle", 0, "app:1")).await.unwrap();
    world.until_running("web", 2).await;
    let refusal = async |reference: &str| refused(exec(&world, start(reference, "cat")).await.map(drop));

    assert_eq!(
        refusal("web").await,
        (Code::Ambiguous, "service web has 2 running tasks: name one of them, as web.1".into())
    );
    assert_eq!(refusal("idle").await.0, Code::NotRunning);
    assert_eq!(refusal("web.9").await, (Code::NotFound, "no such task: web.9".into()));
    agent.vanish().await;
    assert_eq!(refusal("web.1").await, (Code::RemoteUnreachable, "node here is not available".into()));
}
