//! What people are told of what happens.

use secretd_core::time::Timestamp;
use secretd_proto::v1;

use crate::agent::Agent;
use crate::harness::{World, replicas, spec, within};

fn filter(key: &str, value: &str) -> v1::Filter {
    v1::Filter { key: key.to_owned(), value: value.to_owned() }
}

async fn history(world: &World, filters: Vec<v1::Filter>) -> Vec<String> {
    let now = prost_types::Timestamp { seconds: 1_000_000, nanos: 0 };
    let request = v1::WatchEventsRequest { filters, since: Some(prost_types::Timestamp::default()), until: Some(now) };
    let request = v1::WatchEventsRequest { until: None, ..request };
    let mut stream = world.control().watch_events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    // What is kept comes at once; a virtual second later there is no more of it.
    while let Ok(Ok(Some(event))) = tokio::time::timeout(std::time::Duration::from_secs(1), stream.message()).await {
        events.push(format!("{} {} {}", event.kind, event.action, event.name));
    }
    events
}

#[tokio::test(start_paused = true)]
async fn objects_and_tasks_have_events() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    world.create_secret("psql-pw", b"hunter2").await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.until_running("web", 1).await;

    assert_eq!(
        history(&world, vec![]).await,
        [
            "cluster create ",
            "node create here",
            "node update here",
            "secret create psql-pw",
            "service create web",
            "task create web.1",
            "task running web.1",
        ]
    );
    assert_eq!(history(&world, vec![filter("type", "task"), filter("event", "running")]).await, ["task running web.1"]);
    assert_eq!(history(&world, vec![filter("secret", "psql-pw")]).await, ["secret create psql-pw"]);
}

#[tokio::test(start_paused = true)]
async fn changes_say_what_was_and_what_is() {
    let world = World::founded().await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let request = v1::WatchEventsRequest { filters: vec![filter("type", "service")], ..Default::default() };
    let mut stream = world.control().watch_events(request).await.unwrap().into_inner();

    world.update_service("web", |spec| replicas(spec, 5)).await;
    let event = within(stream.message()).await.unwrap().unwrap();

    let attributes: std::collections::BTreeMap<_, _> = event.attributes.into_iter().collect();
    assert_eq!(attributes["replicas.old"], "1");
    assert_eq!(attributes["replicas.new"], "5");
    assert_eq!(attributes["name"], "web");
}

#[tokio::test(start_paused = true)]
async fn other_parts_of_the_node_add_their_events() {
    let world = World::founded().await;
    let request = v1::WatchEventsRequest { filters: vec![filter("type", "image")], ..Default::default() };
    let mut stream = world.control().watch_events(request).await.unwrap().into_inner();

    world.events.publish_local("image", "pull", "sha256:1", "app:1", Timestamp(1));
    let event = within(stream.message()).await.unwrap().unwrap();

    assert_eq!((event.kind.as_str(), event.action.as_str(), event.version), ("image", "pull", 0));
}

#[tokio::test(start_paused = true)]
async fn stream_shows_what_was_before_the_asked_time_and_ends_when_it_is_over() {
    let world = World::founded().await;
    world.events.publish_local("image", "pull", "sha256:1", "app:1", Timestamp(1));
    let until = prost_types::Timestamp { seconds: 1_000 + 30, nanos: 0 };
    let filters = vec![filter("type", "image")];
    let request = v1::WatchEventsRequest { until: Some(until), filters, ..Default::default() };
    let mut stream = world.control().watch_events(request).await.unwrap().into_inner();

    assert_eq!(within(stream.message()).await.unwrap().unwrap().action, "pull");
    assert!(within(stream.message()).await.unwrap().is_none());
}
