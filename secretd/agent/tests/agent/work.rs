//! Logs and commands that the manager asks for.

use secretd_core::seam::runtime::LogLine;
use secretd_core::time::Timestamp;
use secretd_proto::v1::work_output::Output;
use secretd_proto::v1::work_request::Work;
use secretd_proto::v1::{self, TaskState};

use crate::harness::{Heard, World, give_task, task, task_id};

fn is_over(heard: &Heard) -> bool {
    matches!(heard.outputs.last().and_then(|last| last.output.as_ref()), Some(Output::Done(_) | Output::Failed(_)))
}

fn outputs(world: &World) -> Vec<Output> {
    world.manager.heard().outputs.iter().filter_map(|output| output.output.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn logs_of_several_tasks_come_over_one_call() {
    let world = World::started().await;
    let line = |text: &str| LogLine { stderr: false, at: Timestamp(1), line: text.as_bytes().to_vec() };
    world.runtime.put_log(task_id(1), vec![line("one\n"), line("two\n")]);
    world.runtime.put_log(task_id(2), vec![line("three\n")]);
    let task_ids = (1..=3).map(|n| task_id(n).to_string()).collect();

    world.manager.ask(Work::Logs(v1::LogsWork { task_ids, follow: false, tail: -1, since_unix_nanos: 0 }));

    world.manager.until(is_over).await;
    let outputs = outputs(&world);
    let mut lines: Vec<(String, Vec<u8>)> = outputs
        .iter()
        .filter_map(|output| if let Output::Log(record) = output { Some(record) } else { None })
        .map(|record| (record.task_id.clone(), record.line.clone()))
        .collect();
    lines.sort();
    let wanted = [(1, "one\n"), (1, "two\n"), (2, "three\n")];
    assert_eq!(lines, wanted.map(|(n, text)| (task_id(n).to_string(), text.as_bytes().to_vec())));
    assert_eq!((outputs.first(), outputs.last()), (Some(&Output::Started(true)), Some(&Output::Done(true))));
}

#[tokio::test(start_paused = true)]
async fn a_command_gets_its_input_and_gives_its_output_and_exit_code() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;
    world.manager.ask(Work::Exec(v1::ExecWork { task_id: id.to_string(), start: Some(v1::ExecStart::default()) }));
    world.manager.until(|heard| !heard.outputs.is_empty()).await;
    let input = world.manager.work_input();
    for message in [v1::exec_input::Input::Stdin(b"hello".to_vec()), v1::exec_input::Input::StdinClosed(true)] {
        let exec = v1::ExecInput { input: Some(message) };
        input.send(Ok(v1::WorkInput { input: Some(v1::work_input::Input::Exec(exec)) })).await.unwrap();
    }

    world.manager.until(is_over).await;

    let exec = |output| Output::Exec(v1::ExecOutput { output: Some(output) });
    let wanted = [
        Output::Started(true),
        exec(v1::exec_output::Output::Stdout(b"hello".to_vec())),
        exec(v1::exec_output::Output::ExitCode(0)),
        Output::Done(true),
    ];
    assert_eq!(outputs(&world), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_command_in_a_container_that_is_not_there_is_refused_with_a_code() {
    let world = World::started().await;
    let task_id = task_id(1).to_string();

    world.manager.ask(Work::Exec(v1::ExecWork { task_id, start: Some(v1::ExecStart::default()) }));

    world.manager.until(is_over).await;
    let Some(Output::Failed(failure)) = outputs(&world).pop() else { panic!("it was carried out") };
    assert_eq!(failure.code, "not-found");
}

#[tokio::test(start_paused = true)]
async fn a_command_goes_on_when_the_node_has_a_new_certificate() {
    let (world, id) = (World::started().await, task_id(1));
    world.manager.tell(vec![give_task(task(id, TaskState::Running))]);
    world.manager.status(id, TaskState::Running).await;
    world.manager.ask(Work::Exec(v1::ExecWork { task_id: id.to_string(), start: Some(v1::ExecStart::default()) }));
    world.manager.until(|heard| !heard.outputs.is_empty()).await;
    let input = world.manager.work_input();

    // The first manager that the node comes to with it does not lead.
    world.manager.refuse_sessions(1);
    world.certificates.send_modify(|number| *number += 1);
    world.manager.until(|heard| heard.sessions == 2).await;

    for message in [v1::exec_input::Input::Stdin(b"still here".to_vec()), v1::exec_input::Input::StdinClosed(true)] {
        let exec = v1::ExecInput { input: Some(message) };
        input.send(Ok(v1::WorkInput { input: Some(v1::work_input::Input::Exec(exec)) })).await.unwrap();
    }
    world.manager.until(is_over).await;
    let said = v1::ExecOutput { output: Some(v1::exec_output::Output::Stdout(b"still here".to_vec())) };
    assert!(outputs(&world).contains(&Output::Exec(said)), "{:?}", outputs(&world));
}
