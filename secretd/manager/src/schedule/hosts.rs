//! All nodes, in the orders in which they are asked for: by id, by the number of their tasks, by service.
//!
//! Most nodes have nothing of most services. Those are all alike to a service but for the number of their tasks, so one
//! order of them serves every service; the others are few, and kept for each service. A task finds its node without a look
//! at every node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use secretd_core::node::Node;
use secretd_core::service::Resources;
use secretd_core::task::{Task, TaskState};
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, ServiceId};

use super::host::{Host, OfService};

/// Failures count for so long.
pub(super) const FAILURE_WINDOW: Duration = Duration::from_mins(5);

/// The nodes, and what the tasks on them use and reserve. A node's number is its place by id.
#[derive(Debug, Clone)]
pub(super) struct Hosts<'a> {
    all: Vec<Host<'a>>,
    /// Of those that take tasks: how many they have, and their numbers.
    by_tasks: BTreeSet<(u32, usize)>,
    by_service: HashMap<ServiceId, BTreeMap<usize, OfService>>,
}

impl<'a> Hosts<'a> {
    /// The nodes with the tasks that are on them.
    pub(super) fn new(
        nodes: impl Iterator<Item = &'a Node>,
        tasks: impl Iterator<Item = &'a Task>,
        now: Timestamp,
    ) -> Self {
        let mut all: Vec<Host<'a>> = nodes.map(Host::new).collect();
        all.sort_by_key(|host| host.node.id); // they mostly are in this order
        let mut this = Self { all, by_tasks: BTreeSet::new(), by_service: HashMap::new() };
        for task in tasks {
            this.count(task, now);
        }
        let open = this.all.iter().enumerate().filter(|(_, host)| host.is_available());
        this.by_tasks = open.map(|(number, host)| (host.tasks, number)).collect();
        this
    }

    /// Takes account of a task that is on its node.
    fn count(&mut self, task: &Task, now: Timestamp) {
        let Some(number) = task.node_id.as_ref().and_then(|node| self.number(node)) else { return };
        if !task.status.state.is_terminal() {
            // One that waits for its own node is not on it yet.
            if task.status.state >= TaskState::Assigned
                && let Some(host) = self.all.get_mut(number)
            {
                host.reserve(&task.spec.resources);
                // One that is to end has its share until it has ended, and leaves its place to the one that follows it.
                if task.desired_state <= TaskState::Running {
                    host.tasks += 1;
                    self.of_service_mut(task.service_id, number).tasks += 1;
                }
            }
        } else if matches!(task.status.state, TaskState::Failed | TaskState::Rejected) {
            let window = i64::try_from(FAILURE_WINDOW.as_nanos()).unwrap_or(i64::MAX);
            if now.0.saturating_sub(task.status.since.0) < window {
                self.of_service_mut(task.service_id, number).failures += 1;
            }
        }
    }

    fn of_service_mut(&mut self, service: ServiceId, number: usize) -> &mut OfService {
        self.by_service.entry(service).or_default().entry(number).or_default()
    }

    /// The number of a node.
    pub(super) fn number(&self, node: &NodeId) -> Option<usize> {
        self.all.binary_search_by_key(node, |host| host.node.id).ok()
    }

    /// A node by its number.
    pub(super) fn get(&self, number: usize) -> Option<&Host<'a>> {
        self.all.get(number)
    }

    /// All nodes with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Host<'a>)> {
        self.all.iter().enumerate()
    }

    /// What a service has on a node.
    pub(super) fn of_service(&self, service: ServiceId, number: usize) -> OfService {
        self.by_service.get(&service).and_then(|on| on.get(&number)).copied().unwrap_or_default()
    }

    /// The numbers of the nodes on which a service has tasks or has failed.
    pub(super) fn with(&self, service: ServiceId) -> impl Iterator<Item = usize> {
        self.by_service.get(&service).into_iter().flat_map(|on| on.keys().copied())
    }

    /// The first node after `after` (tasks, number) that takes tasks and on which a service has nothing: how many tasks it
    /// has, and its number.
    pub(super) fn next_without(&self, service: ServiceId, after: Option<(u32, usize)>) -> Option<(u32, usize)> {
        let on = self.by_service.get(&service);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let is_without = |number| on.is_none_or(|on| !on.contains_key(number));
        self.by_tasks.range((from, Bound::Unbounded)).find(|(_, number)| is_without(number)).copied()
    }

    /// Puts a task on a node, which takes its share.
    pub(super) fn add(&mut self, number: usize, service: ServiceId, resources: &Resources) {
        let Some(host) = self.all.get_mut(number) else { return };
        if self.by_tasks.remove(&(host.tasks, number)) {
            self.by_tasks.insert((host.tasks + 1, number));
        }
        host.reserve(resources);
        host.tasks += 1;
        self.of_service_mut(service, number).tasks += 1;
    }
}
