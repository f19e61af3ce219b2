//! What becomes of tasks when nodes come, go, and change; services with a task on each node.

use super::*;

#[test]
fn tasks_leave_a_lost_node_at_once_and_a_drained_one_when_they_stopped() {
    let service = service(1);
    let mut world = World::new(service.clone(), tasks(&service, [1]));
    world.hosts.insert(node_id(1), Host::Down { since: at(99) });
    world.check(&expect![[r#"
        create slot 1 Running
        desire 1 Shutdown
        wake at 86499
    "#]]);

    world.hosts.insert(node_id(1), Host::Drains);
    world.check(&expect![[r#"
        create slot 1 Ready
        desire 1 Shutdown
    "#]]);
}

#[test]
fn tasks_of_a_node_that_is_down_for_a_day_are_lost() {
    let service = service(0);
    let told = desired(task(&service, 1), TaskState::Remove);
    let mut world = World::new(service, vec![told]);
    world.hosts.insert(node_id(1), Host::Down { since: at(99) });
    world.check(&expect![[r#"
        wake at 86499
    "#]]);

    world.now = at(86_499);
    world.check(&expect![[r#"
        orphan 1
    "#]]);
    world.hosts.remove(&node_id(1));
    world.now = at(100);
    world.check(&expect![[r#"
        orphan 1
    "#]]);
}

#[test]
fn tasks_leave_a_node_that_meets_the_constraints_no_more() {
    let service = service(1);
    let mut world = World::new(service.clone(), tasks(&service, [1]));
    world.barred.insert(node_id(1));
    world.check(&expect![[r#"
        create slot 1 Ready
        desire 1 Shutdown
    "#]]);
    // One that is paused keeps what it has.
    world.hosts.insert(node_id(1), Host::Pauses);
    assert!(is_empty(&world.plan()));
}

#[test]
fn where_tasks_may_run_replaces_none_that_is_where_it_may_be() {
    let old = service(1);
    let mut new = old.clone();
    new.spec_version = Version(2);
    new.spec.task.placement.max_replicas_per_node = 3;
    assert!(is_empty(&World::new(new, tasks(&old, [1])).plan()));
}

fn global(tasks: Vec<Task>) -> World {
    let mut service = service(0);
    service.spec.mode = ServiceMode::Global;
    let mut world = World::new(service, tasks);
    world.hosts.insert(node_id(3), Host::Pauses);
    world
}

#[test]
fn global_service_has_a_task_on_each_node_that_may_have_one() {
    let service = service(0);
    let on = |n: u8, number: u64| {
        let mut task = slot(task(&service, n), number);
        task.node_id = Some(node_id(n));
        task
    };
    global(vec![]).check(&expect![[r#"
        create slot 1 Running on 1
        create slot 2 Running on 2
    "#]]);
    global(vec![on(2, 7)]).check(&expect![[r#"
        create slot 1 Running on 1
    "#]]);
    let mut world = global(vec![on(1, 1), on(2, 2), on(3, 3)]);
    assert!(is_empty(&world.plan()));
    world.barred.insert(node_id(1));
    world.hosts.insert(node_id(2), Host::Drains);
    world.check(&expect![[r#"
        desire 1 Remove
        desire 2 Remove
    "#]]);
    // One that cannot be reached goes on with its task when it is back.
    world.barred.clear();
    world.hosts.insert(node_id(2), Host::Down { since: at(99) });
    world.check(&expect![[r#"
        wake at 86499
    "#]]);
    world.hosts.remove(&node_id(2));
    world.check(&expect![[r#"
        desire 2 Remove
        orphan 2
    "#]]);
}

#[test]
fn task_of_a_global_service_is_followed_on_its_node() {
    let service = service(0);
    let mut failed = slot(ended(task(&service, 2), TaskState::Failed, 50), 1);
    failed.node_id = Some(node_id(2));
    let mut world = global(vec![failed]);
    world.hosts.remove(&node_id(1));
    world.check(&expect![[r#"
        create slot 1 Ready (restart) on 2
        desire 2 Shutdown
    "#]]);
}
