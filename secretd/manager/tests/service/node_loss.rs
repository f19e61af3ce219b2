//! Sessions and heartbeats: nodes that go, come back, and managers that restart.

use secretd_proto::code::Code;
use secretd_proto::v1;

use crate::agent::{Agent, description};
use crate::harness::{World, refused, spec, state, within};

async fn node(world: &World) -> v1::Node {
    let request = v1::GetNodeRequest { reference: "here".to_owned() };
    world.control().get_node(request).await.unwrap().into_inner().node.unwrap()
}

#[tokio::test(start_paused = true)]
async fn silent_node_is_down_after_its_heartbeats_and_ready_when_it_is_back() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    assert_eq!(node(&world).await.state(), v1::node::State::Ready);

    agent.vanish().await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(node(&world).await.state(), v1::node::State::Disconnected);
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    let down = node(&world).await;
    assert_eq!((down.state(), down.message.as_str()), (v1::node::State::Down, "heartbeat failure"));

    let _agent = Agent::connect(&world).await;
    assert_eq!(node(&world).await.state(), v1::node::State::Ready);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_node_ready() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;

    tokio::time::sleep(std::time::Duration::from_secs(300)).await;

    assert_eq!(node(&world).await.state(), v1::node::State::Ready);
}

#[tokio::test(start_paused = true)]
async fn agent_that_comes_back_in_time_keeps_its_tasks() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 2, "app:1")).await.unwrap();
    let before = world.until_running("web", 2).await;

    agent.vanish().await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let agent = Agent::connect(&world).await;
    agent.until(|seen| seen.tasks.len() == 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;

    let after = world.until_running("web", 2).await;
    assert!(before.iter().all(|task| after.iter().any(|other| other.id == task.id)));
}

#[tokio::test(start_paused = true)]
async fn restarted_manager_keeps_the_tasks_of_an_agent_that_finds_it() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 2, "app:1")).await.unwrap();
    let before = world.until_running("web", 2).await;
    agent.vanish().await;

    let world = world.restarted();
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    let agent = Agent::connect(&world).await;
    agent.until(|seen| seen.tasks.len() == 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;

    let after = world.until_running("web", 2).await;
    assert!(before.iter().all(|task| after.iter().any(|other| other.id == task.id)));
}

#[tokio::test(start_paused = true)]
async fn tasks_of_a_lost_node_are_replaced() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let before = world.until_running("web", 1).await.remove(0);

    agent.vanish().await;
    let is_pending = |task: &v1::Task| state(task) == v1::TaskState::Pending;
    let (_, tasks) = world.until("web", |_, tasks| tasks.iter().any(is_pending)).await;
    assert_eq!(tasks.len(), 2);
    let _agent = Agent::connect(&world).await;
    let after = world.until_running("web", 1).await.remove(0);

    assert_ne!(after.id, before.id);
}

#[tokio::test(start_paused = true)]
async fn newer_session_ends_the_older() {
    let world = World::founded().await;
    let mut first = Agent::connect(&world).await;
    let second = Agent::connect(&world).await;

    first.ended().await;
    let beat = async |session: &str| {
        let beat = v1::HeartbeatRequest { session_id: session.to_owned() };
        let answers = world.dispatcher().heartbeat(tokio_stream::once(beat)).await.unwrap();
        answers.into_inner().message().await
    };

    assert_eq!(refused(beat(&first.session).await).0, Code::NotFound);
    assert!(beat(&second.session).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_speaks_for_itself_alone() {
    let mut world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let request = v1::SessionRequest {
        node_id: secretd_proto::id::NodeId::random().to_string(),
        description: Some(description(&[1; 32])),
        ..Default::default()
    };
    assert_eq!(refused(world.dispatcher().session(request).await.map(drop)).0, Code::PermissionDenied);

    // Nor does it help to know another's session.
    let mut other = world.other_node().await;
    let session_id = agent.session.clone();
    let assignments = v1::AssignmentsRequest { session_id: session_id.clone() };
    let statuses = v1::UpdateTaskStatusRequest { session_id: session_id.clone(), updates: Vec::new() };
    let own_key = v1::UpdateNodeRequest { session_id: session_id.clone(), description: Some(description(&[1; 32])) };
    let beat = v1::HeartbeatRequest { session_id: session_id.clone() };
    let mut beats = other.heartbeat(tokio_stream::once(beat)).await.unwrap().into_inner();
    for refused_call in [
        other.assignments(assignments).await.map(drop),
        other.update_task_status(statuses).await.map(drop),
        other.update_node(own_key).await.map(drop),
        other.leave(v1::LeaveRequest { session_id }).await.map(drop),
        beats.message().await.map(drop),
    ] {
        assert_eq!(refused(refused_call).0, Code::PermissionDenied);
    }

    // A report on a task that is not there any more is late, not wrong.
    let task = secretd_proto::id::TaskId::random().to_string();
    agent.report(&task, v1::TaskState::Running, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_another_node_alive() {
    let mut world = World::founded().await;
    let agent = Agent::connect(&world).await;
    let mut other = world.other_node().await;
    let (reference, session_id) = (agent.node.to_string(), agent.session.clone());

    agent.vanish().await;
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        let beat = v1::HeartbeatRequest { session_id: session_id.clone() };
        let mut beats = other.heartbeat(tokio_stream::once(beat)).await.unwrap().into_inner();
        beats.message().await.unwrap_err();
    }

    let silent = world.control().get_node(v1::GetNodeRequest { reference }).await.unwrap().into_inner().node.unwrap();
    assert_eq!(silent.state(), v1::node::State::Down);
}

#[tokio::test(start_paused = true)]
async fn report_of_an_older_state_changes_nothing() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let task = world.until_running("web", 1).await.remove(0);

    agent.report(&task.id, v1::TaskState::Preparing, |_| {}).await;

    assert_eq!(state(&world.until_running("web", 1).await[0]), v1::TaskState::Running);
}

#[tokio::test(start_paused = true)]
async fn manager_ends_when_its_store_is_closed() {
    let mut world = World::founded().await;
    world.store.clone().shutdown().await;

    let ended = within(world.manager.ended()).await;

    assert_eq!(ended.to_string(), "the store is closed");
}
