//! One node: a runtime of its own, so that a crash ends everything that ran on it at once and nothing else.
//!
//! Its time goes only when the world lets it: tokio's clock is paused, and each step lets the node do what there is to do
//! in some milliseconds. A stalled node misses its steps, and finds afterwards that time has passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use camino::Utf8Path;
use parking_lot::Mutex;
use secretd_core::fake::runtime::FakeRuntime;
use secretd_core::seam::clock::Clock;
use secretd_core::seam::runtime::Runtime as _;
use secretd_core::time::Timestamp;
use secretd_proto::id::{NodeId, TaskId};
use secretd_proto::shim::Phase;
use secretd_sealing::at_rest::Sealer;
use secretd_sealing::secret::Dek;
use secretd_store::simulation::{Inspection, LogLength, LoggedEntry, Simulation, Threads, Work};
use secretd_store::{Member, Store};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::disk::{Crash, Disk};
use crate::mount::Mount;
use crate::net::{self, Net, address};
use crate::part::{Part, manage, node_id, work};
use crate::rng::Rng;

/// After so few entries a log is shortened: a run has some hundred.
const LOG: LogLength = LogLength { between_snapshots: 25, kept: 6 };

const DIRECTORY: &str = "/store";

/// Everything runs on the thread of the simulation.
#[derive(Debug)]
struct OneThread;

impl Threads for OneThread {
    fn run_core(&self, core: Work) -> std::io::Result<()> {
        tokio::spawn(core);
        Ok(())
    }

    fn run_aside(&self, runtime: &Handle, work: Work) {
        runtime.spawn(work);
    }
}

/// The wall clock of a node: the world's time, and how far it is off.
#[derive(Debug, Clone)]
pub(crate) struct Wall {
    world: Arc<AtomicI64>,
    off: Arc<AtomicI64>,
}

impl Wall {
    pub(crate) fn new(world: Arc<AtomicI64>) -> Self {
        Self { world, off: Arc::default() }
    }

    pub(crate) fn jump(&self, milliseconds: i64) {
        self.off.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let milliseconds = self.world.load(Ordering::Relaxed) + self.off.load(Ordering::Relaxed);
        Timestamp(1_800_000_000_000_000_000 + milliseconds * 1_000_000)
    }
}

/// What the process of a node has come to.
#[derive(Debug, Clone)]
pub(crate) enum Process {
    Opening,
    Open(Store),
    /// It has ended by itself.
    Ended {
        reason: String,
        store: Option<Store>,
    },
}

/// A node, up or down.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) wall: Wall,
    /// Counts its processes.
    pub(crate) life: u64,
    pub(crate) part: Part,
    /// The store's key: a new one with each disk.
    key: u8,
    running: Option<Running>,
    /// Time that it has missed.
    missed: Duration,
    /// Steps that it still misses.
    stalled: u64,
    /// Of a thousand steps, it misses or doubles so many: its clock goes slower or faster than others.
    drift: i64,
    /// Its member, and the log that it had, when it went down; no log, when that could not be read any more.
    pub(crate) when_down: Option<(u64, Option<Vec<LoggedEntry>>)>,
}

#[derive(Debug)]
struct Running {
    runtime: Runtime,
    process: Arc<Mutex<Process>>,
}

impl Node {
    pub(crate) fn new(index: usize, part: Part, wall: Wall, rng: &mut Rng) -> Self {
        Self {
            index,
            id: node_id(index),
            part,
            disk: Disk::default(),
            wall,
            life: 0,
            key: 0,
            running: None,
            missed: Duration::ZERO,
            stalled: 0,
            drift: i64::try_from(rng.below(60)).unwrap() - 30,
            when_down: None,
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member { node: self.id, address: address(self.index) }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Its process begins.
    pub(crate) fn boot(&mut self, net: &Net) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let process = Arc::new(Mutex::new(Process::Opening));
        let simulation = Simulation { disk: Arc::new(self.disk.mounted()), threads: Arc::new(OneThread), log: LOG };
        let key = [u8::try_from(self.index).unwrap() * 16 + self.key; 32];
        let sealer = Sealer::new(&Dek::from_bytes(&key));
        let start = Start { own: self.index, part: self.part.clone(), simulation, sealer, wall: self.wall.clone() };
        runtime.spawn(live(start, net.clone(), Arc::clone(&process)));
        self.life += 1;
        (self.missed, self.stalled) = (Duration::ZERO, 0);
        self.running = Some(Running { runtime, process });
    }

    /// Everything that runs on it ends at once.
    pub(crate) fn crash(&mut self, net: &Net, how: Crash, rng: &mut Rng) {
        if let Some(inspection) = self.last_store().and_then(|store| store.inspect()) {
            self.when_down = Some((inspection.standing().member, inspection.log(0).ok()));
        }
        net.hang_up(self.index);
        match &mut self.part {
            Part::Store => {}
            Part::Manager { wires, .. } => wires.hang_up(self.index),
            Part::Worker { wires, containers, mount, .. } => {
                wires.hang_up(self.index);
                if how == Crash::Power {
                    // Containers and secret-fs outlive secretd, and nothing else.
                    (*containers, *mount) = (FakeRuntime::default(), Mount::new());
                }
            }
        }
        self.disk.crash(how, rng); // first: what is dropped with the process must not write
        self.running = None;
    }

    /// A new disk, with a new key.
    pub(crate) fn replace_disk(&mut self) {
        self.disk.replace();
        self.key += 1;
        self.when_down = None;
    }

    pub(crate) fn stall(&mut self, steps: u64) {
        self.stalled = steps;
    }

    /// Does what there is to do in a step.
    pub(crate) fn step(&mut self, length: Duration, rng: &mut Rng) {
        let Some(running) = &self.running else { return };
        if self.stalled > 0 {
            self.stalled -= 1;
            self.missed += length;
            return;
        }
        let drifts = rng.chance(self.drift.unsigned_abs());
        let length = match (drifts, self.drift < 0) {
            (true, true) => return,
            (true, false) => length * 2,
            (false, _) => length,
        };
        let missed = std::mem::take(&mut self.missed);
        running.runtime.block_on(async {
            if !missed.is_zero() {
                tokio::time::advance(missed).await;
            }
            tokio::time::sleep(length).await;
        });
    }

    /// The tasks whose containers run here.
    pub(crate) fn containers(&self) -> Vec<TaskId> {
        let Part::Worker { containers, .. } = &self.part else { return Vec::new() };
        let listed = std::pin::pin!(containers.list());
        let Poll::Ready(Ok(listed)) = listed.poll(&mut Context::from_waker(Waker::noop())) else { return Vec::new() };
        let runs = |phase: &Phase| matches!(phase, Phase::Running);
        let running = listed.into_iter().filter(|seen| seen.status.as_ref().is_some_and(|status| runs(&status.phase)));
        running.map(|seen| seen.task).collect()
    }

    pub(crate) fn exit(&self, task: &TaskId) {
        if let Part::Worker { containers, .. } = &self.part {
            containers.exit(task, 1, false);
        }
    }

    pub(crate) fn process(&self) -> Option<Process> {
        self.running.as_ref().map(|running| running.process.lock().clone())
    }

    pub(crate) fn store(&self) -> Option<Store> {
        match self.process() {
            Some(Process::Open(store)) => Some(store),
            Some(Process::Opening | Process::Ended { .. }) | None => None,
        }
    }

    fn last_store(&self) -> Option<Store> {
        match self.process()? {
            Process::Open(store) => Some(store),
            Process::Ended { store, .. } => store,
            Process::Opening => None,
        }
    }

    pub(crate) fn inspect(&self) -> Option<Inspection> {
        self.store()?.inspect()
    }

    /// Does something on the node, and says what came of it; nothing, when the node goes down first.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Outcome<T> {
        let outcome = Outcome(Arc::new(Mutex::new(Progress::Running)));
        let told = Told(outcome.clone());
        match &self.running {
            Some(running) => {
                running.runtime.spawn(async move {
                    let result = work.await;
                    *told.0.0.lock() = Progress::Done(result);
                });
            }
            None => drop(told),
        }
        outcome
    }
}

/// What comes of something that is done on a node.
#[derive(Debug)]
pub(crate) struct Outcome<T>(Arc<Mutex<Progress<T>>>);

impl<T> Clone for Outcome<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub(crate) enum Progress<T> {
    Running,
    Done(T),
    /// The node went down.
    Lost,
}

impl<T> Outcome<T> {
    /// What has come of it; the first that asks after its end is told.
    pub(crate) fn take(&self) -> Progress<T> {
        let mut progress = self.0.lock();
        if matches!(*progress, Progress::Running) {
            Progress::Running
        } else {
            std::mem::replace(&mut progress, Progress::Lost)
        }
    }
}

/// Notices when the work is dropped.
struct Told<T>(Outcome<T>);

impl<T> Drop for Told<T> {
    fn drop(&mut self) {
        let mut progress = self.0.0.lock();
        if matches!(*progress, Progress::Running) {
            *progress = Progress::Lost;
        }
    }
}

struct Start {
    own: usize,
    part: Part,
    simulation: Simulation,
    sealer: Sealer,
    wall: Wall,
}

/// What the process of a node does.
async fn live(start: Start, net: Net, process: Arc<Mutex<Process>>) {
    let Start { own, part, simulation, sealer, wall } = start;
    let wall = Arc::new(wall);
    if let Part::Worker { wires, managers, containers, mount } = part {
        let reason = work(own, wires, managers, (containers, mount), wall).await;
        *process.lock() = Process::Ended { reason, store: None };
        return;
    }
    let peers = Arc::new(net::From { net: net.clone(), own });
    let opened = Store::open_simulated(simulation, Utf8Path::new(DIRECTORY), sealer, wall.clone(), peers).await;
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            *process.lock() =
                Process::Ended { reason: format!("the store does not open: {error}: {error:?}"), store: None };
            return;
        }
    };
    if let Some(replica) = store.replica() {
        let inbox = net.listen(own);
        tokio::spawn(net::serve(net, own, replica.member_id(), replica.server(), inbox));
    }
    let mut manager = match part {
        Part::Manager { wires, managers } => Some(manage(store.clone(), own, &wires, managers, wall)),
        Part::Store | Part::Worker { .. } => None,
    };
    *process.lock() = Process::Open(store.clone());
    let ends = async {
        match &mut manager {
            Some(manager) => manager.ended().await.to_string(),
            None => std::future::pending().await,
        }
    };
    let reason = tokio::select! {
        biased;
        failure = store.failed() => format!("the store failed: {failure}"),
        reason = ends => reason,
    };
    *process.lock() = Process::Ended { reason, store: Some(store) };
}
