//! The suitable nodes for tasks of one specification.
//!
//! Without placement preferences there are two kinds: those on which the service has something, which are queued by their
//! rank, and all others, which are asked for one by one. With preferences it is a tree with a level for each of them, a
//! branch for each value of it, and a queue of nodes at each leaf: a task goes down the branch that has fewest tasks of the
//! service.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use secretd_core::placement::NodeKey;
use secretd_proto::id::NodeId;

use super::Wanted;
use super::host::{Host, Rank};
use super::hosts::Hosts;

/// Nodes, the best first; the node's number makes the choice the same each time.
type Queue = BinaryHeap<Reverse<(Rank, usize)>>;

/// The nodes for tasks of one specification.
#[derive(Debug)]
pub(super) enum Group {
    Spread(Branch),
    Even(Even),
}

/// Without preferences.
#[derive(Debug, Default)]
pub(super) struct Even {
    /// Nodes on which the service has something.
    known: Queue,
    /// How far the others have been looked at: their tasks, and the node's number.
    seen: Option<(u32, usize)>,
    /// The best of the others.
    fresh: Fresh,
}

/// What is known of the nodes on which the service has nothing.
#[derive(Debug, Clone, Copy, Default)]
enum Fresh {
    /// They have to be looked at.
    #[default]
    Unseen,
    /// The best of them.
    Best(Rank, usize),
    /// None takes a task, nor will one later: nodes only fill.
    None,
}

/// The nodes that have the same values of some preferences.
#[derive(Debug, Default)]
pub(super) struct Branch {
    /// Tasks of the service on its nodes, those that take no more included.
    tasks: u64,
    /// Nodes that take more.
    open: usize,
    branches: BTreeMap<String, Branch>,
    /// Where there is no further preference.
    queue: Queue,
}

impl Group {
    pub(super) fn new(hosts: &Hosts<'_>, wanted: &Wanted<'_>) -> Self {
        let preferences = wanted.rules.preferences.as_slice();
        if preferences.is_empty() {
            let known = hosts.with(wanted.service).filter_map(|number| entry(hosts, wanted, number));
            return Self::Even(Even { known: known.collect::<Vec<_>>().into(), ..Even::default() });
        }
        let mut root = Branch::default();
        for (number, host) in hosts.iter() {
            let tasks = u64::from(hosts.of_service(wanted.service, number).tasks);
            root.insert(host, preferences, tasks, entry(hosts, wanted, number));
        }
        Self::Spread(root)
    }

    /// The best node for one more task, which takes its share there.
    pub(super) fn next(&mut self, hosts: &mut Hosts<'_>, wanted: &Wanted<'_>) -> Option<NodeId> {
        match self {
            Self::Spread(root) => root.next(hosts, wanted),
            Self::Even(even) => even.next(hosts, wanted),
        }
    }
}

/// A node's place in a queue, unless it takes no task.
fn entry(hosts: &Hosts<'_>, wanted: &Wanted<'_>, number: usize) -> Option<Reverse<(Rank, usize)>> {
    let of_service = hosts.of_service(wanted.service, number);
    let host = hosts.get(number).filter(|host| host.refuses(wanted, of_service).is_none())?;
    Some(Reverse((host.rank(of_service), number)))
}

impl Even {
    fn next(&mut self, hosts: &mut Hosts<'_>, wanted: &Wanted<'_>) -> Option<NodeId> {
        if matches!(self.fresh, Fresh::Unseen) {
            self.fresh = self.look(hosts, wanted);
        }
        let known = self.known.peek().map(|Reverse(known)| *known);
        let number = match (known, self.fresh) {
            (Some(known), Fresh::Best(rank, number)) if (rank, number) < known => {
                self.fresh = Fresh::Unseen;
                number
            }
            (Some((_, number)), _) => {
                self.known.pop();
                number
            }
            (None, Fresh::Best(_, number)) => {
                self.fresh = Fresh::Unseen;
                number
            }
            (None, Fresh::Unseen | Fresh::None) => return None,
        };
        hosts.add(number, wanted.service, wanted.resources);
        self.known.extend(entry(hosts, wanted, number));
        Some(hosts.get(number)?.node.id)
    }

    /// The next of the nodes on which the service has nothing: one that refuses a task of this specification refuses every
    /// later one too.
    fn look(&mut self, hosts: &Hosts<'_>, wanted: &Wanted<'_>) -> Fresh {
        while let Some(next) = hosts.next_without(wanted.service, self.seen) {
            self.seen = Some(next);
            if let Some(Reverse((rank, number))) = entry(hosts, wanted, next.1) {
                return Fresh::Best(rank, number);
            }
        }
        Fresh::None
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

    fn next(&mut self, hosts: &mut Hosts<'_>, wanted: &Wanted<'_>) -> Option<NodeId> {
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
                let Reverse((_, number)) = self.queue.pop()?;
                hosts.add(number, wanted.service, wanted.resources);
                match entry(hosts, wanted, number) {
                    Some(entry) => self.queue.push(entry),
                    None => self.open -= 1,
                }
                hosts.get(number)?.node.id
            }
        };
        self.tasks += 1;
        Some(node)
    }
}
