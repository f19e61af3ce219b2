//! Tables of nodes and the node that wins.

use expect_test::{Expect, expect};

use super::*;
use crate::sample::{at, node, node_id, service, task};

struct World {
    nodes: Vec<Node>,
    tasks: Vec<Task>,
}

impl World {
    fn new(nodes: u8) -> Self {
        Self { nodes: (1..=nodes).map(node).collect(), tasks: vec![] }
    }

    /// A task on node `n`, of the service that is scheduled or of another.
    fn with(mut self, n: u8, own: bool, state: TaskState) -> Self {
        let id = u8::try_from(self.tasks.len() + 1).unwrap();
        let mut task = task(&service(1), id);
        task.node_id = Some(node_id(n));
        task.status.state = state;
        if !own {
            task.service_id = ServiceId::from_random([9; 16]);
        }
        self.tasks.push(task);
        self
    }

    /// Where `n` new tasks of the service go.
    fn check(self, n: u8, change: impl Fn(&mut Task), expected: &Expect) {
        let nodes: Vec<_> = self.nodes.into_iter().map(Arc::new).collect();
        let tasks: Vec<_> = self.tasks.into_iter().map(Arc::new).collect();
        let mut placement = Placement::new(nodes.iter(), tasks.iter(), at(100));
        let places = (0..n).map(|n| {
            let mut new = task(&service(1), 100 + n);
            new.node_id = None;
            change(&mut new);
            match placement.place(&new) {
                Ok(node) => node.to_string().trim_start_matches('0').to_owned(),
                Err(reason) => reason.to_string(),
            }
        });
        expected.assert_eq(&places.collect::<Vec<_>>().join(", "));
    }
}

#[test]
fn tasks_of_a_service_spread_over_nodes() {
    World::new(3).check(6, |_| {}, &expect!["1, 2, 3, 1, 2, 3"]);
}

#[test]
fn own_tasks_count_before_others_and_ended_ones_do_not() {
    let world = World::new(2).with(1, true, TaskState::Running);
    world.with(2, false, TaskState::Running).with(2, false, TaskState::Running).check(1, |_| {}, &expect!["2"]);
    World::new(2).with(1, false, TaskState::Running).check(1, |_| {}, &expect!["2"]);
    World::new(2).with(1, true, TaskState::Shutdown).check(1, |_| {}, &expect!["1"]);
}

#[test]
fn node_on_which_the_service_fails_again_and_again_comes_last() {
    let failing = |n: usize| (0..n).fold(World::new(2), |world, _| world.with(1, true, TaskState::Failed));
    failing(4).with(2, true, TaskState::Running).check(1, |_| {}, &expect!["1"]);
    failing(5).with(2, true, TaskState::Running).check(1, |_| {}, &expect!["2"]);
}

#[test]
fn reservations_fill_nodes_and_limits_do_not() {
    let reserve = |task: &mut Task| task.spec.resources.reserve_nano_cpus = 1_000_000_000;
    World::new(1).check(3, reserve, &expect!["1, 1, no suitable node (insufficient resources on 1 node)"]);
    let limit = |task: &mut Task| task.spec.resources.nano_cpus = 64_000_000_000;
    World::new(1).check(3, limit, &expect!["1, 1, 1"]);
    let memory = |task: &mut Task| task.spec.resources.reserve_memory_bytes = 1 << 29;
    World::new(1).check(3, memory, &expect!["1, 1, no suitable node (insufficient resources on 1 node)"]);
}

#[test]
fn every_reason_is_counted() {
    let mut world = World::new(5);
    world.nodes[0].state = NodeState::Down;
    world.nodes[1].availability = Availability::Drain;
    world.nodes[2].availability = Availability::Pause;
    let greedy = |task: &mut Task| task.spec.resources.reserve_memory_bytes = 1 << 40;
    world.check(
        1,
        greedy,
        &expect!["no suitable node (insufficient resources on 2 nodes; 3 nodes not available for new tasks)"],
    );
    World::new(0).check(1, |_| {}, &expect!["no suitable node (the cluster has no nodes)"]);
}
