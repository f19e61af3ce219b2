//! Services from creation to removal.

use secretd_core::time::Timestamp;
use secretd_proto::v1;
use secretd_store::Event;

use crate::agent::Agent;
use crate::harness::{World, live, replicas, spec, state, within};

#[tokio::test(start_paused = true)]
async fn founding_makes_a_cluster_with_this_node() {
    let world = World::founded().await;
    let nodes = world.control().list_nodes(v1::ListNodesRequest::default()).await.unwrap().into_inner().nodes;
    let key = world.control().get_sealing_key(v1::GetSealingKeyRequest {}).await.unwrap().into_inner();
    let cluster = world.control().get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner().cluster.unwrap();

    assert_eq!((nodes.len(), nodes[0].manager), (1, true));
    assert_eq!((key.cluster_id, key.sealing_key.len()), (cluster.id, 32));
}

#[tokio::test(start_paused = true)]
async fn new_tasks_are_made_allocated_and_placed_in_one_change() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let (_, mut watch) = world.store.view_and_watch();

    world.create_service(spec("web", 3, "app:1")).await.unwrap();
    let created = within(watch.next()).await.unwrap();
    let placed = within(watch.next()).await.unwrap();

    assert_eq!(created.events.len(), 1);
    assert_eq!(placed.version.0, created.version.0 + 1);
    let assigned = placed.events.iter().filter(|event| match event {
        Event::TaskCreated(task) => task.node_id.is_some(),
        _ => false,
    });
    assert_eq!(assigned.count(), 3);
    assert!(placed.at <= Timestamp(created.at.0 + 1_000_000), "nothing waits on the way");
}

#[tokio::test(start_paused = true)]
async fn scaling_adds_and_takes_slots_and_touches_no_other_task() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 2, "app:1")).await.unwrap();
    let before = world.until_running("web", 2).await;

    world.update_service("web", |spec| replicas(spec, 4)).await;
    let grown = world.until_running("web", 4).await;
    world.update_service("web", |spec| replicas(spec, 1)).await;
    let (_, left) = world.until("web", |_, tasks| tasks.len() == 1).await;

    assert!(before.iter().all(|task| grown.iter().any(|other| other.id == task.id)));
    assert_eq!(left[0].slot, 1);
    agent.until(|seen| seen.tasks.len() == 1).await;
    let list = world.control().list_services(v1::ListServicesRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.services[0].running, list.services[0].desired), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn ended_task_is_replaced_after_its_delay_and_kept_as_history() {
    let world = World::founded().await;
    let agent = Agent::connect(&world).await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let first = world.until_running("web", 1).await.remove(0);
    let start = tokio::time::Instant::now();

    agent.report(&first.id, v1::TaskState::Failed, |status| status.error = "task: non-zero exit (1)".into()).await;
    let (_, tasks) = world.until("web", |_, tasks| live(tasks).iter().any(crate::harness::is_running)).await;

    assert!(start.elapsed() >= std::time::Duration::from_secs(5));
    assert_eq!(tasks.len(), 2);
    let old = tasks.iter().find(|task| task.id == first.id).unwrap();
    assert_eq!((state(old), old.desired_state()), (v1::TaskState::Failed, v1::TaskState::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn crash_loop_keeps_five_tasks_of_history() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let service = world.create_service(spec("web", 1, "bad")).await.unwrap();

    tokio::time::sleep(std::time::Duration::from_secs(120)).await;

    let id = service.id.parse().unwrap();
    let kept = world.store.view().tasks_of_service(&id).count();
    assert!((5..=6).contains(&kept), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn task_without_a_node_says_why_and_is_placed_when_there_is_one() {
    let world = World::founded().await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let is_pending = |task: &v1::Task| state(task) == v1::TaskState::Pending;
    let (_, tasks) = world.until("web", |_, tasks| tasks.iter().any(is_pending)).await;
    assert_eq!(tasks[0].status.as_ref().unwrap().error, "no suitable node (1 node not available for new tasks)");

    let _agent = Agent::connect(&world).await;
    world.until_running("web", 1).await;

    let mut greedy = spec("greedy", 1, "app:1");
    greedy.task.as_mut().unwrap().resources.as_mut().unwrap().reserve_nano_cpus = 64_000_000_000;
    world.create_service(greedy).await.unwrap();
    let (_, tasks) = world.until("greedy", |_, tasks| tasks.iter().any(is_pending)).await;
    assert_eq!(tasks[0].status.as_ref().unwrap().error, "no suitable node (insufficient resources on 1 node)");
}

#[tokio::test(start_paused = true)]
async fn service_without_a_name_gets_one() {
    let world = World::founded().await;
    let service = world.create_service(spec("", 0, "app:1")).await.unwrap();

    assert!(service.spec.unwrap().name.contains('_'));
}

#[tokio::test(start_paused = true)]
async fn watch_ends_when_the_service_and_its_tasks_are_gone() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let service = world.create_service(spec("web", 2, "app:1")).await.unwrap();
    world.until_running("web", 2).await;
    let request = v1::WatchServiceRequest { id: service.id };
    let mut stream = world.control().watch_service(request).await.unwrap().into_inner();

    let request = v1::RemoveServiceRequest { reference: "web".to_owned() };
    world.control().remove_service(request).await.unwrap();
    let mut last = None;
    while let Some(message) = within(stream.message()).await.unwrap() {
        last = Some(message);
    }

    assert_eq!(last, Some(v1::WatchServiceResponse { service: None, tasks: vec![], desired: 0 }));
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered_and_sorted() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    for name in ["b", "a", "ab"] {
        let mut spec = spec(name, 1, "app:1");
        spec.labels.insert("first".to_owned(), name[..1].to_owned());
        world.create_service(spec).await.unwrap();
        world.until_running(name, 1).await;
    }
    let filter = |key: &str, value: &str| v1::Filter { key: key.to_owned(), value: value.to_owned() };
    let names = async |filters: Vec<v1::Filter>| {
        let list = world.control().list_services(v1::ListServicesRequest { filters }).await.unwrap().into_inner();
        list.services.into_iter().map(|of| of.service.unwrap().spec.unwrap().name).collect::<Vec<_>>()
    };

    assert_eq!(names(vec![]).await, ["a", "ab", "b"]);
    assert_eq!(names(vec![filter("name", "a")]).await, ["a", "ab"]);
    assert_eq!(names(vec![filter("label", "first=b")]).await, ["b"]);
    let filters =
        vec![filter("service", "a"), filter("desired-state", "running"), filter("node", &world.node.to_string())];
    let tasks = world.control().list_tasks(v1::ListTasksRequest { filters }).await.unwrap().into_inner().tasks;
    assert_eq!(tasks.iter().map(|task| task.service_name.as_str()).collect::<Vec<_>>(), ["a"]);
    let request = v1::GetTaskRequest { reference: "ab.1".to_owned() };
    assert_eq!(world.control().get_task(request).await.unwrap().into_inner().task.unwrap().service_name, "ab");
}
