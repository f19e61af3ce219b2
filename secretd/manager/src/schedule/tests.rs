//! Tables of nodes and the node that wins.

use expect_test::{Expect, expect};

use secretd_core::node::{Availability, NodeState};
use secretd_core::task::TaskState;

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
            match placement.place(&Wanted::of(&new), 1) {
                (nodes, None) => nodes.iter().map(|node| node.to_string().trim_start_matches('0').to_owned()).collect(),
                (_, Some(reason)) => reason.to_string(),
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
fn task_that_is_to_end_leaves_its_place_and_keeps_its_share() {
    let replaced = || {
        let mut world = World::new(2).with(1, true, TaskState::Running).with(2, true, TaskState::Running);
        world.tasks[0].desired_state = TaskState::Shutdown;
        world.tasks[0].spec.resources.reserve_nano_cpus = 1_500_000_000;
        world
    };
    replaced().check(2, |_| {}, &expect!["1, 1"]);
    let reserve = |task: &mut Task| task.spec.resources.reserve_nano_cpus = 1_000_000_000;
    replaced().check(1, reserve, &expect!["2"]);
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

fn rules(constraints: &[&str], spread: &[&str], max: u64) -> Rules {
    Rules {
        constraints: constraints.iter().map(|text| text.parse().unwrap()).collect(),
        preferences: spread.iter().map(|text| text.parse().unwrap()).collect(),
        max_replicas_per_node: max,
    }
}

fn zoned(zones: &[&str]) -> World {
    let mut world = World::new(u8::try_from(zones.len()).unwrap());
    for (node, zone) in world.nodes.iter_mut().zip(zones) {
        if let [zone, rest @ ..] = zone.split(' ').collect::<Vec<_>>().as_slice() {
            if !zone.is_empty() {
                node.labels.insert("zone".to_owned(), (*zone).to_owned());
            }
            if let [rack] = rest {
                node.labels.insert("rack".to_owned(), (*rack).to_owned());
            }
        }
    }
    world
}

#[test]
fn constraints_leave_the_nodes_that_satisfy_all_of_them() {
    let placed = |constraints: &'static [&str], expected: &Expect| {
        let mut world = zoned(&["a", "b", "a", ""]);
        world.nodes.iter_mut().for_each(|node| node.manager = false);
        world.nodes[2].manager = true;
        world.check(3, |task| task.spec.placement = rules(constraints, &[], 0), expected);
    };
    placed(&["node.labels.zone==a"], &expect!["1, 3, 1"]);
    placed(&["node.labels.zone==a", "node.role!=manager"], &expect!["1, 1, 1"]);
    placed(&["node.labels.zone!=a"], &expect!["2, 4, 2"]);
    placed(
        &["node.labels.zone==c"],
        &expect![[
            r"no suitable node (scheduling constraints not satisfied on 4 nodes), no suitable node (scheduling constraints not satisfied on 4 nodes), no suitable node (scheduling constraints not satisfied on 4 nodes)"
        ]],
    );
}

#[test]
fn nodes_take_no_more_of_a_service_than_they_may() {
    World::new(2).check(
        5,
        |task| task.spec.placement = rules(&[], &[], 2),
        &expect!["1, 2, 1, 2, no suitable node (max replicas per node limit exceeded on 2 nodes)"],
    );
}

#[test]
fn preferences_spread_over_values_before_nodes() {
    let spread = |keys: &'static [&str]| move |task: &mut Task| task.spec.placement = rules(&[], keys, 0);
    // Four nodes in zone a, one in b, one without a zone: each third of the tasks goes to each of them.
    let zones = ["a", "a", "a", "a", "b", ""];
    zoned(&zones).check(9, spread(&["node.labels.zone"]), &expect!["6, 1, 5, 6, 2, 5, 6, 3, 5"]);
    zoned(&zones).check(6, spread(&[]), &expect!["1, 2, 3, 4, 5, 6"]);
    // Within a zone, over racks.
    let racks = ["a x", "a x", "a y", "b z"];
    zoned(&racks).check(8, spread(&["node.labels.zone", "node.labels.rack"]), &expect!["1, 4, 3, 4, 2, 4, 3, 4"]);
}

#[test]
fn branch_that_takes_no_more_leaves_its_share_to_others() {
    let both = |task: &mut Task| task.spec.placement = rules(&[], &["node.labels.zone"], 1);
    zoned(&["a", "b", "b"]).check(
        4,
        both,
        &expect!["1, 2, 3, no suitable node (max replicas per node limit exceeded on 3 nodes)"],
    );
}

#[test]
fn task_that_belongs_to_a_node_goes_there_or_says_why_not() {
    let mut nodes: Vec<Node> = (1..=2).map(node).collect();
    nodes[1].availability = Availability::Drain;
    let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
    let mut placement = Placement::new(nodes.iter(), [].iter(), at(100));
    let task = task(&service(1), 1);
    let mut on = |n: u8| placement.place_on(&node_id(n), &Wanted::of(&task)).map_err(|error| error.to_string());
    assert_eq!(on(1), Ok(()));
    assert_eq!(on(2), Err("no suitable node (1 node not available for new tasks)".to_owned()));
    assert_eq!(on(3), Err("no suitable node (its node is not there any more)".to_owned()));
}

/// The best node as one finds it who looks at every node.
fn best(placement: &Placement<'_>, wanted: &Wanted<'_>) -> Option<NodeId> {
    let suitable = placement.0.iter().filter_map(|(number, host)| {
        let of_service = placement.0.of_service(wanted.service, number);
        host.refuses(wanted, of_service).is_none().then(|| (host.rank(of_service), number, host.node.id))
    });
    suitable.min().map(|(_, _, node)| node)
}

proptest::proptest! {
    #[test]
    fn node_that_is_found_is_the_best_of_all(
        there in proptest::collection::vec((1_u8..=9, 0_u8..4, proptest::bool::ANY), 0..80),
        drained in 0_u8..9,
        rounds in proptest::collection::vec((0_u8..5, 1_usize..7, 0_u64..3, 0_i64..3), 1..12),
    ) {
        let mut nodes: Vec<Node> = (1..=9).map(node).collect();
        if let Some(node) = nodes.get_mut(usize::from(drained)) {
            node.availability = Availability::Drain;
        }
        let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
        let of = |number: u8| ServiceId::from_random([number; 16]);
        let tasks = there.iter().enumerate().map(|(number, (on, service_number, runs))| {
            let mut task = task(&service(1), u8::try_from(number).unwrap());
            task.node_id = Some(node_id(*on));
            task.service_id = of(*service_number);
            task.status.state = if *runs { TaskState::Running } else { TaskState::Failed };
            Arc::new(task)
        });
        let tasks: Vec<_> = tasks.collect();
        let mut placement = Placement::new(nodes.iter(), tasks.iter(), at(100));
        for (number, count, max, cpus) in rounds {
            let rules = Rules { max_replicas_per_node: max, ..Rules::default() };
            let resources = Resources { reserve_nano_cpus: cpus * 500_000_000, ..Resources::default() };
            let wanted = Wanted { service: of(number), resources: &resources, rules: &rules };
            // One after another, each is the best; and all at once they are the same.
            let (mut alone, mut expected) = (placement.clone(), Vec::new());
            for _ in 0..count {
                let Some(node) = best(&alone, &wanted) else { break };
                proptest::prop_assert_eq!(alone.place(&wanted, 1).0, vec![node]);
                expected.push(node);
            }
            proptest::prop_assert_eq!(placement.place(&wanted, count).0, expected);
        }
    }
}
