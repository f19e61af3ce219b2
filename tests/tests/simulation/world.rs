//! The world: time goes step by step, and in each step every node, every client and every fault has its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use secretd_core::node::ClusterSpec;
use secretd_store::simulation::LoggedEntry;
use secretd_store::{MembershipError, Op};

use crate::client::Client;
use crate::disk::Crash;
use crate::faults::{Fault, draw, draw_lag};
use crate::fixture::{found, node};
use crate::history::History;
use crate::invariant::{self, Invariant, NewEntries, News, NodeSight, Sight};
use crate::net::{Net, Weather};
use crate::node::{Node, Outcome, Process, Progress, Wall};
use crate::operator::Operator;
use crate::part::Part;
use crate::rng::Rng;
use crate::settled::settled;
use crate::trace::Trace;
use crate::wire::Wires;

/// Milliseconds in a step.
const STEP: u64 = 2;
/// Steps between two looks at the invariants.
const LOOK: u64 = 10;
/// How long a healed cluster may take until it is as it should be.
const HEALS_IN: u64 = 60_000;
/// How long a cluster may take to be founded.
const FOUNDED_IN: u64 = 60_000;
const CLIENTS: usize = 4;
/// How often agents say that they live.
const HEARTBEAT: Duration = Duration::from_millis(400);

/// What did not hold, and when.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) at: u64,
    pub(crate) invariant: String,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ms: {}: {}", self.at, self.invariant, self.what)
    }
}

/// A change of membership that is under way.
#[derive(Debug)]
enum Job {
    /// Before the removal of the node that leads.
    HandOver {
        node: usize,
        new_disk: bool,
        outcome: Outcome<Result<(), MembershipError>>,
    },
    Remove {
        node: usize,
        new_disk: bool,
        outcome: Outcome<Result<(), MembershipError>>,
    },
    Add {
        node: usize,
        outcome: Outcome<Result<(), MembershipError>>,
    },
}

/// A simulated cluster.
#[derive(Debug)]
pub(crate) struct World {
    now: u64,
    wall: Arc<AtomicI64>,
    pub(crate) trace: Trace,
    rng: Rng,
    steps: Rng,
    net: Net,
    wires: Wires,
    /// Managers first.
    nodes: Vec<Node>,
    managers: usize,
    operator: Option<Operator>,
    clients: Vec<Client>,
    are_clients_busy: bool,
    history: History,
    invariants: Vec<Box<dyn Invariant>>,
    news: Vec<News>,
    acknowledged: u64,
    jobs: Vec<Job>,
    boots: BTreeMap<u64, BTreeSet<usize>>,
    down: BTreeMap<u64, Option<Vec<LoggedEntry>>>,
    leaders: BTreeSet<(u64, usize)>,
    new_entries: NewEntries,
}

impl fmt::Debug for dyn Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl World {
    /// Stores alone, of three, five or seven managers.
    pub(crate) fn of_stores(seed: u64) -> Self {
        Self::new(seed, |rng| (rng.pick(&[3, 5, 7]).unwrap(), 0))
    }

    /// Managers and agents, with containers and secrets.
    pub(crate) fn of_clusters(seed: u64) -> Self {
        Self::new(seed, |rng| (rng.pick(&[3, 3, 5]).unwrap(), 1 + rng.below(3)))
    }

    fn new(seed: u64, size: impl FnOnce(&mut Rng) -> (usize, usize)) -> Self {
        let mut rng = Rng::new(seed);
        let trace = Trace::default();
        let net = Net::new(rng.fork(), trace.clone());
        let wires = Wires::new(rng.fork(), net.clone());
        let (managers, workers) = size(&mut rng);
        let wall = Arc::new(AtomicI64::new(0));
        let part = |index| match index {
            _ if workers == 0 => Part::Store,
            _ if index <= managers => Part::Manager { wires: wires.clone(), managers },
            _ => Part::worker(&wires, managers),
        };
        let nodes = 1..=managers + workers;
        let nodes = nodes.map(|index| Node::new(index, part(index), Wall::new(Arc::clone(&wall)), &mut rng)).collect();
        let clients = (0..CLIENTS).map(|_| Client::new(rng.fork())).collect();
        Self {
            now: 0,
            wall,
            trace,
            steps: rng.fork(),
            rng,
            net,
            wires: wires.clone(),
            nodes,
            managers,
            operator: (workers > 0).then(|| Operator::new(Rng::new(seed).fork())),
            clients,
            are_clients_busy: false,
            history: History::default(),
            invariants: invariant::all(workers > 0),
            news: Vec::new(),
            acknowledged: 0,
            jobs: Vec::new(),
            boots: BTreeMap::new(),
            down: BTreeMap::new(),
            leaders: BTreeSet::new(),
            new_entries: NewEntries::default(),
        }
    }

    /// Founds a cluster of all nodes, breaks it for a while, heals it, and looks whether it is whole.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.found()?;
        self.are_clients_busy = true;
        let end = self.now + self.rng.between(5_000, 9_000);
        let mut next_fault = self.now + 200;
        // With seven managers, half of the time goes without three of them: there each single answer counts.
        let thin_until = if self.managers == 7 { (self.now + end) / 2 } else { 0 };
        if thin_until > 0 {
            self.thin_out(thin_until - self.now);
        }
        while self.now < end {
            self.step()?;
            if self.now >= next_fault {
                let is_thin = self.now < thin_until;
                next_fault = self.now + self.rng.between(20, if is_thin { 300 } else { 800 });
                let fault = if is_thin { draw_lag(&mut self.rng, 4) } else { draw(&mut self.rng, self.nodes.len()) };
                self.trace.say(format_args!("{fault:?}"));
                self.commit(fault);
            }
        }
        self.heal()?;
        let acknowledged = self.acknowledged;
        self.trace.say(format_args!("{acknowledged} writes and {} reads", self.history.reads));
        Ok(())
    }

    /// All but four managers are down for so long.
    fn thin_out(&mut self, milliseconds: u64) {
        for node in 5..=self.managers {
            self.commit(Fault::Crash { node, how: Crash::Kill, down: milliseconds });
        }
    }

    fn found(&mut self) -> Result<(), Violation> {
        for index in 0..self.nodes.len() {
            self.boot(index + 1);
        }
        self.until(FOUNDED_IN, "every store opens", |world| {
            world.managers().iter().all(|node| node.store().is_some())
        })?;
        let Some((first, store)) = self.nodes.first().and_then(|first| Some((first, first.store()?))) else {
            return Ok(());
        };
        let spec = ClusterSpec { heartbeat: HEARTBEAT, ..ClusterSpec::default() };
        let mut ops = vec![found(&first.member(), spec)];
        if self.operator.is_some() {
            let others = self.nodes.iter().skip(1);
            ops.extend(others.map(|other| Op::PutNode { node: node(&other.member(), other.index <= self.managers) }));
        }
        let founded = first.run(async move { store.propose(ops).await });
        self.until_done(&founded, "the cluster is founded")?;
        for index in 2..=self.managers {
            self.until(FOUNDED_IN, "a manager is added", |world| {
                if world.jobs.is_empty() && !world.is_voter(index) {
                    world.add(index);
                }
                world.is_voter(index)
            })?;
        }
        self.trace.say(format_args!("{} managers of {} nodes", self.managers, self.nodes.len()));
        Ok(())
    }

    fn heal(&mut self) -> Result<(), Violation> {
        self.trace.say("all is healed");
        self.net.heal();
        self.net.set_weather(Weather::FINE);
        self.boots.clear();
        for index in 1..=self.nodes.len() {
            self.node(index).stall(0);
            if !self.node(index).is_up() {
                self.boot(index);
            }
        }
        let before = self.acknowledged;
        self.until(HEALS_IN, "the healed cluster takes a write, and every node is a voter", |world| {
            if !world.jobs.is_empty() {
                return false; // one of them may take a manager out yet
            }
            if world.now.is_multiple_of(100) {
                let missing = (1..=world.managers).find(|index| !world.is_voter(*index));
                missing.into_iter().for_each(|index| world.add(index));
            }
            world.acknowledged > before && (1..=world.managers).all(|index| world.is_voter(index))
        })?;
        self.are_clients_busy = false;
        self.until(HEALS_IN, "every task runs where it is to run, and no other", |world| {
            let is_idle = world.operator.as_ref().is_none_or(|operator| !operator.is_waiting());
            is_idle && world.now.is_multiple_of(50) && world.tasks_are_settled()
        })?;
        self.until(HEALS_IN, "the healed cluster comes to rest, the same on every node", |world| {
            world.jobs.is_empty() && world.clients.iter().all(|client| !client.is_waiting()) && world.is_at_rest()
        })?;
        self.look(true)
    }

    fn managers(&self) -> &[Node] {
        self.nodes.get(..self.managers).unwrap_or_default()
    }

    /// Whether what runs is what the leader's state asks for.
    fn tasks_are_settled(&self) -> bool {
        let Some(store) = self.leader().and_then(Node::store) else { return false };
        self.operator.is_none() || settled(&store.view(), &self.nodes)
    }

    /// Every manager has applied its whole log, and all logs end alike.
    fn is_at_rest(&self) -> bool {
        let standings: Vec<_> = self.managers().iter().filter_map(|node| Some(node.inspect()?.standing())).collect();
        let Some(first) = standings.first() else { return false };
        let is_applied = |standing: &secretd_store::simulation::Standing| {
            standing.applied.is_some_and(|applied| applied.index == standing.last_index)
        };
        standings.len() == self.managers
            && standings.iter().all(|standing| is_applied(standing) && standing.applied == first.applied)
            && standings.iter().any(|standing| standing.leads)
    }

    fn until(&mut self, limit: u64, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> Result<(), Violation> {
        let limit = self.now + limit;
        while !holds(self) {
            if self.now > limit {
                return Err(Violation {
                    at: self.now,
                    invariant: "liveness".to_owned(),
                    what: format!("{what}: it did not come about"),
                });
            }
            self.step()?;
        }
        Ok(())
    }

    fn until_done<T, E: fmt::Display>(&mut self, outcome: &Outcome<Result<T, E>>, what: &str) -> Result<(), Violation> {
        let mut failed = None;
        self.until(FOUNDED_IN, what, |_| match outcome.take() {
            Progress::Running => false,
            Progress::Done(result) => {
                failed = result.err().map(|error| error.to_string());
                true
            }
            Progress::Lost => true,
        })?;
        failed.map_or(Ok(()), |error| Err(Violation { at: self.now, invariant: what.to_owned(), what: error }))
    }

    fn node(&mut self, index: usize) -> &mut Node {
        self.nodes.get_mut(index - 1).unwrap()
    }

    fn boot(&mut self, index: usize) {
        let net = self.net.clone();
        self.node(index).boot(&net);
    }

    fn boot_in(&mut self, index: usize, milliseconds: u64) {
        self.boots.entry(self.now + milliseconds).or_default().insert(index);
    }

    fn crash(&mut self, index: usize, how: Crash, down: u64) {
        let (net, mut rng) = (self.net.clone(), self.rng.fork());
        let node = self.node(index);
        if !node.is_up() {
            return;
        }
        node.crash(&net, how, &mut rng);
        let when_down = node.when_down.clone();
        self.down.extend(when_down);
        self.boot_in(index, down);
    }

    /// One step of time.
    fn step(&mut self) -> Result<(), Violation> {
        self.now += STEP;
        self.wall.store(i64::try_from(self.now).unwrap(), Ordering::Relaxed);
        self.trace.set_now(self.now);
        while let Some(entry) = self.boots.first_entry().filter(|entry| *entry.key() <= self.now) {
            for index in entry.remove() {
                if !self.node(index).is_up() {
                    self.boot(index);
                }
            }
        }
        self.net.deliver(self.now);
        self.wires.carry(self.now);
        for node in &mut self.nodes {
            node.step(Duration::from_millis(STEP), &mut self.steps);
        }
        self.bury()?;
        self.hear_clients();
        self.step_jobs();
        if !self.news.is_empty() || self.now.is_multiple_of(STEP * LOOK) {
            self.look(false)?;
        }
        if self.now.is_multiple_of(500) {
            self.trace.say_counted();
        }
        Ok(())
    }

    /// A process that ended by itself is started again, unless it could not even begin: that must never be.
    fn bury(&mut self) -> Result<(), Violation> {
        for index in 1..=self.nodes.len() {
            let Some(Process::Ended { reason, store }) = self.node(index).process() else { continue };
            self.trace.say(format_args!("node {index} ends: {reason}"));
            if store.is_none() && !self.node(index).disk.has_failed() {
                let invariant = "a store always opens again".to_owned();
                return Err(Violation { at: self.now, invariant, what: format!("node {index}: {reason}") });
            }
            drop(store);
            let how = if self.rng.chance(500) { Crash::Kill } else { Crash::Power };
            let down = self.rng.between(100, 1000);
            self.crash(index, how, down);
        }
        Ok(())
    }

    fn hear_clients(&mut self) {
        let Some(describes) = self.nodes.first().map(|node| node.id) else { return };
        let busy = self.are_clients_busy;
        let managers = self.nodes.get(..self.managers).unwrap_or_default();
        if let Some(operator) = &mut self.operator
            && let Some(told) = operator.step(self.now, managers, &self.wires, busy)
        {
            self.trace.say(told);
        }
        for client in self.clients.iter_mut().filter(|client| busy || client.is_waiting()) {
            if let Some(news) = client.step(self.now, managers, describes, &mut self.history, busy) {
                self.trace.say(format_args!("{news:?}"));
                self.acknowledged += u64::from(matches!(news, News::Acknowledged { .. }));
                self.news.push(news);
            }
        }
    }

    fn look(&mut self, is_end: bool) -> Result<(), Violation> {
        let mut sights = Vec::new();
        for node in &self.nodes {
            let Some((store, inspection)) = node.store().and_then(|store| Some((store.clone(), store.inspect()?)))
            else {
                continue;
            };
            let (index, life, standing, view) = (node.index, node.life, inspection.standing(), store.view());
            // A store that failed says so; raft may stop for no other reason.
            if store.replica().is_some_and(secretd_store::Replica::has_stopped) {
                let (invariant, what) = ("raft goes on".to_owned(), format!("raft has stopped on node {}", node.index));
                return Err(Violation { at: self.now, invariant, what });
            }
            let entries = self.new_entries.of((index, life), &inspection);
            let unread = |what| Violation { at: self.now, invariant: "logs can be read".to_owned(), what };
            let entries = entries.map_err(unread)?;
            sights.push(NodeSight { index, life, standing, view, inspection, entries });
        }
        for sight in sights.iter().filter(|sight| sight.standing.leads) {
            if self.leaders.insert((sight.standing.term, sight.index)) {
                self.trace.say(format_args!("node {} leads term {}", sight.index, sight.standing.term));
            }
        }
        let sight = Sight {
            workers: self.nodes.get(self.managers..).unwrap_or_default(),
            nodes: &sights,
            down: &self.down,
            news: &self.news,
            history: &self.history,
            net: &self.net,
        };
        for invariant in &mut self.invariants {
            let mut held = invariant.check(&sight);
            if is_end {
                held = held.and_then(|()| invariant.check_end(&sight));
            }
            held.map_err(|what| Violation { at: self.now, invariant: invariant.name().to_owned(), what })?;
        }
        self.news.clear();
        Ok(())
    }

    fn leader(&self) -> Option<&Node> {
        let leads = |node: &&Node| node.inspect().is_some_and(|inspection| inspection.standing().leads);
        self.nodes.iter().filter(leads).max_by_key(|node| node.inspect().map(|inspection| inspection.standing().term))
    }

    /// Whether the leader takes the node, with its present disk, for a voter.
    fn is_voter(&self, index: usize) -> bool {
        let Some(leader) = self.leader().and_then(Node::inspect) else { return false };
        let member = self.nodes.get(index - 1).and_then(Node::inspect).map(|inspection| inspection.standing().member);
        let voters = leader.standing().voters;
        voters.len() == 1 && member.is_some_and(|member| voters.iter().all(|voters| voters.contains(&member)))
    }

    /// Whether the leader takes the node, with its present disk, for nobody.
    fn is_out(&self, index: usize) -> bool {
        let Some(leader) = self.leader().and_then(Node::inspect) else { return false };
        let member = self.nodes.get(index - 1).and_then(Node::inspect).map(|inspection| inspection.standing().member);
        member.is_some_and(|member| leader.standing().voters.iter().all(|voters| !voters.contains(&member)))
    }

    fn add(&mut self, index: usize) {
        let Some((node, member)) = self.nodes.get(index - 1).and_then(|node| Some((node, node.inspect()?))) else {
            return;
        };
        let (id, member) = (member.standing().member, node.member());
        let Some((leader, replica)) =
            self.leader().and_then(|leader| Some((leader, leader.store()?.replica()?.clone())))
        else {
            return;
        };
        let outcome = leader.run(async move { replica.add_member(id, member).await });
        self.jobs.push(Job::Add { node: index, outcome });
    }

    /// Takes a node out, unless too few would be left.
    fn remove(&mut self, index: usize, new_disk: bool) {
        let voters = (1..=self.managers).filter(|index| self.is_voter(*index)).count();
        if voters < 3 || !self.is_voter(index) {
            return;
        }
        let Some(id) = self.nodes.get(index - 1).and_then(Node::inspect).map(|inspection| inspection.standing().member)
        else {
            return;
        };
        let Some((leader, replica)) =
            self.leader().and_then(|leader| Some((leader, leader.store()?.replica()?.clone())))
        else {
            return;
        };
        if replica.member_id() == id {
            let outcome = leader.run(async move { replica.hand_over().await });
            self.jobs.push(Job::HandOver { node: index, new_disk, outcome });
        } else {
            let outcome = leader.run(async move { replica.remove_member(id).await });
            self.jobs.push(Job::Remove { node: index, new_disk, outcome });
        }
    }

    fn step_jobs(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Add { node, outcome } => match outcome.take() {
                    Progress::Running => self.jobs.push(Job::Add { node, outcome }),
                    Progress::Done(added) => self.trace.say(format_args!("node {node} is added: {added:?}")),
                    Progress::Lost => self.trace.say(format_args!("who added node {node} went down")),
                },
                Job::HandOver { node, new_disk, outcome } => match outcome.take() {
                    Progress::Running => self.jobs.push(Job::HandOver { node, new_disk, outcome }),
                    Progress::Done(handed_over) => {
                        self.trace.say(format_args!("node {node} hands over: {handed_over:?}"));
                        if handed_over.is_ok() {
                            self.remove(node, new_disk);
                        }
                    }
                    Progress::Lost => self.trace.say(format_args!("who was to hand over, node {node}, went down")),
                },
                Job::Remove { node, new_disk, outcome } => match outcome.take() {
                    Progress::Running => self.jobs.push(Job::Remove { node, new_disk, outcome }),
                    Progress::Done(removed) => {
                        self.trace.say(format_args!("node {node} is removed: {removed:?}"));
                        // What was agreed on under a leader that is one no more may be undone.
                        if removed.is_ok() && new_disk && self.is_out(node) {
                            let down = self.rng.between(50, 300);
                            self.crash(node, Crash::Kill, down);
                            self.node(node).replace_disk();
                        }
                    }
                    Progress::Lost => self.trace.say(format_args!("who removed node {node} went down")),
                },
            }
        }
    }

    /// Lets a fault happen.
    fn commit(&mut self, fault: Fault) {
        let all = 1..=self.nodes.len();
        match fault {
            Fault::Crash { node, how, down } => self.crash(node, how, down),
            Fault::Blackout { down } => all.for_each(|index| self.crash(index, Crash::Power, down)),
            Fault::Partition { side, hears, says } => {
                for (inside, outside) in all.clone().flat_map(|one| all.clone().map(move |other| (one, other))) {
                    if side.contains(&inside) && !side.contains(&outside) {
                        if !says {
                            self.net.cut(inside, outside);
                        }
                        if !hears {
                            self.net.cut(outside, inside);
                        }
                    }
                }
            }
            Fault::Heal => self.net.heal(),
            Fault::Weather(weather) => self.net.set_weather(weather),
            Fault::Stall { node, steps } => self.node(node).stall(steps),
            Fault::Jump { node, by } => self.node(node).wall.jump(by),
            Fault::BadDisk { node, after } => self.node(node).disk.fail_sync(after),
            Fault::Exit { node } => {
                let pick = self.rng.below(usize::MAX);
                if let Some(task) = self.node(node).containers().into_iter().cycle().nth(pick % 7) {
                    self.node(node).exit(&task);
                }
            }
            Fault::Elect { node } => {
                let node = self.node(node);
                if let Some(replica) = node.store().and_then(|store| store.replica().cloned()) {
                    node.run(async move { replica.stand_for_election().await });
                }
            }
            Fault::Replace { node } => self.remove(node, true),
            Fault::Demote { node } => self.remove(node, false),
            Fault::Promote => {
                let missing = (1..=self.managers).find(|index| !self.is_voter(*index));
                missing.into_iter().for_each(|index| self.add(index));
            }
        }
    }
}
