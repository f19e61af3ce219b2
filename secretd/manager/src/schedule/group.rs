//! The suitable nodes for tasks of one specification: a tree with a level for each placement preference, a branch for each
//! value of it, and a queue of nodes at each leaf. A task goes down the branch that has fewest tasks of the service.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use secretd_core::placement::NodeKey;
use secretd_proto::id::NodeId;

use super::Wanted;
use super::host::{Host, Rank};

/// Nodes, the best first; the node's number makes the choice the same each time.
type Queue = BinaryHeap<Reverse<(Rank, usize)>>;

/// The nodes for tasks of one specification.
#[derive(Debug)]
pub(super) struct Group(Branch);

#[derive(Debug, Default)]
struct Branch {
    /// Tasks of the service on its nodes, those that take no more included.
    tasks: u64,
    /// Nodes that take more.
    open: usize,
    branches: BTreeMap<String, Branch>,
    /// Where there is no further preference.
    queue: Queue,
}

impl Group {
    pub(super) fn new(hosts: &[Host<'_>], wanted: &Wanted<'_>) -> Self {
        let preferences = wanted.rules.preferences.as_slice();
        if preferences.is_empty() {
            // Nobody asks how many there are: the queue alone is made, and at once.
            let suitable = hosts.iter().enumerate().filter(|(_, host)| host.refuses(wanted).is_none());
            let queue: Queue =
                suitable.map(|(index, host)| Reverse((host.rank(wanted.service), index))).collect::<Vec<_>>().into();
            return Self(Branch { open: queue.len(), queue, ..Branch::default() });
        }
        let mut root = Branch::default();
        for (index, host) in hosts.iter().enumerate() {
            let entry = host.refuses(wanted).is_none().then(|| Reverse((host.rank(wanted.service), index)));
            root.insert(host, preferences, u64::from(host.tasks_of(wanted.service)), entry);
        }
        Self(root)
    }

    /// The best node for one more task, which takes its share there.
    pub(super) fn next(&mut self, hosts: &mut [Host<'_>], wanted: &Wanted<'_>) -> Option<NodeId> {
        self.0.next(hosts, wanted)
    }
}

impl Branch {
    fn insert(&mut self, host: &Host<'_>, preferences: &[NodeKey], tasks: u64, entry: Option<Reverse<(Rank, usize)>>) {
        self.tasks += tasks;
        self.open += usize::from(entry.is_some());
        match preferences {
            [] => self.queue.extend(entry),
            [first, rest @ ..] => {
                let branch = self.branches.entry(first.value(host.node).into_owned()).or_default();
                branch.insert(host, rest, tasks, entry);
            }
        }
    }

    fn next(&mut self, hosts: &mut [Host<'_>], wanted: &Wanted<'_>) -> Option<NodeId> {
        if self.open == 0 {
            return None;
        }
        let emptiest = self.branches.values_mut().filter(|branch| branch.open > 0).min_by_key(|branch| branch.tasks);
        let node = match emptiest {
            Some(branch) => {
                let before = branch.open;
                let node = branch.next(hosts, wanted)?;
                self.open -= before - branch.open;
                node
            }
            None => {
                let Reverse((_, index)) = self.queue.pop()?;
                let host = hosts.get_mut(index)?;
                host.add(wanted.service, wanted.resources);
                if host.refuses(wanted).is_none() {
                    self.queue.push(Reverse((host.rank(wanted.service), index)));
                } else {
                    self.open -= 1;
                }
                host.node.id
            }
        };
        self.tasks += 1;
        Some(node)
    }
}
