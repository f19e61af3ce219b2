//! A client: asks for one thing after another, of one manager or the next, and notes what it is told.

use std::collections::BTreeMap;

use secretd_core::secret::SealedPayload;
use secretd_core::time::Version;
use secretd_proto::id::NodeId;
use secretd_store::{ProposeError, Store};

use crate::history::{History, Write, is_clients, op, secret_id, secret_number};
use crate::invariant::News;
use crate::node::{Node, Outcome, Progress};
use crate::rng::Rng;

/// A client asks so often at most, in milliseconds.
const PAUSE: (u64, u64) = (5, 120);
/// It waits so long for an answer, in milliseconds, and asks another manager then: what came of it, it never knows.
const PATIENCE: (u64, u64) = (100, 2500);

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    rng: Rng,
    /// The manager that it takes for the leader.
    manager: usize,
    rests_until: u64,
    waits_until: u64,
    asked: Option<Asked>,
    /// What it knows of secrets.
    known: BTreeMap<u64, u64>,
}

#[derive(Debug)]
enum Asked {
    Write { attempt: usize, node: usize, outcome: Outcome<Result<Version, ProposeError>> },
    Read { node: usize, floor: Version, outcome: Outcome<Result<Seen, ProposeError>> },
}

/// What a read saw.
#[derive(Debug)]
struct Seen {
    version: Version,
    secrets: BTreeMap<u64, u64>,
    /// One payload: of which secret and version.
    payload: Option<(u64, u64, SealedPayload)>,
}

impl Client {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, manager: 1, rests_until: 0, waits_until: 0, asked: None, known: BTreeMap::new() }
    }

    /// Hears what was answered, and asks for the next thing as long as it is `busy`.
    pub(crate) fn step(
        &mut self,
        now: u64,
        nodes: &[Node],
        describes: NodeId,
        history: &mut History,
        busy: bool,
    ) -> Option<News> {
        let news = self.hear(now, nodes.len(), history);
        if busy && self.asked.is_none() && now >= self.rests_until {
            self.waits_until = now + self.rng.between(PATIENCE.0, PATIENCE.1);
            self.ask(nodes, describes, history);
        }
        news
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    fn ask(&mut self, nodes: &[Node], describes: NodeId, history: &mut History) {
        if self.rng.chance(150) {
            self.manager = 1 + self.rng.below(nodes.len());
        }
        let Some(node) = nodes.get(self.manager - 1) else { return };
        let Some(store) = node.store() else {
            self.manager = 1 + self.rng.below(nodes.len());
            return;
        };
        if self.rng.chance(350) {
            let (floor, pick) = (history.floor, self.rng.below(usize::MAX));
            history.reads += 1;
            let outcome = node.run(read(store, pick));
            self.asked = Some(Asked::Read { node: node.index, floor, outcome });
            return;
        }
        let write = self.write(history);
        let length = u32::try_from(match self.rng.below(20) {
            0 => self.rng.between(5_000, 60_000),
            _ => self.rng.between(8, 300),
        });
        let attempt = history.begin(write, length.unwrap());
        let op = op(write, attempt, length.unwrap(), describes);
        let outcome = node.run(async move { store.propose(vec![op]).await });
        self.asked = Some(Asked::Write { attempt, node: node.index, outcome });
    }

    fn write(&mut self, history: &mut History) -> Write {
        let known: Vec<(u64, u64)> = self.known.iter().map(|(secret, version)| (*secret, *version)).collect();
        match (self.rng.pick(&known), self.rng.below(100)) {
            (_, 80..=87) => Write::Describe,
            (Some((secret, version)), 0..50) => Write::Update(secret, version + 1),
            (Some((secret, _)), 88..=99) => {
                self.known.remove(&secret);
                Write::Remove(secret)
            }
            _ => Write::Create(history.new_secret()),
        }
    }

    fn hear(&mut self, now: u64, managers: usize, history: &mut History) -> Option<News> {
        let news = match self.asked.as_ref()? {
            Asked::Write { attempt, node, outcome } => {
                let outcome = match outcome.take() {
                    Progress::Running if now < self.waits_until => return None,
                    Progress::Done(outcome) => outcome,
                    Progress::Running | Progress::Lost => Err(ProposeError::Closed),
                };
                history.end(*attempt, &outcome);
                let (attempt, node) = (history.attempts.get(*attempt).copied()?, *node);
                self.learn(attempt.write, &outcome, managers);
                outcome.is_ok().then_some(News::Acknowledged { node, attempt })
            }
            Asked::Read { node, floor, outcome } => match outcome.take() {
                Progress::Running if now < self.waits_until => return None,
                Progress::Done(Ok(seen)) => {
                    let (node, floor) = (*node, floor.0);
                    let wrong =
                        seen.payload.map(|(secret, version, payload)| history.check_payload(secret, version, &payload));
                    history.floor = history.floor.max(seen.version);
                    self.known = seen.secrets;
                    match wrong {
                        Some(Err(what)) => Some(News::WrongPayload(what)),
                        Some(Ok(())) | None => Some(News::Read { node, floor, version: seen.version.0 }),
                    }
                }
                Progress::Done(Err(_)) | Progress::Running | Progress::Lost => {
                    self.manager = 1 + self.rng.below(managers);
                    None
                }
            },
        };
        self.asked = None;
        self.rests_until = now + self.rng.between(PAUSE.0, PAUSE.1);
        news
    }

    fn learn(&mut self, write: Write, outcome: &Result<Version, ProposeError>, managers: usize) {
        match (outcome, write) {
            (Ok(_), Write::Create(secret)) => drop(self.known.insert(secret, 1)),
            (Ok(_), Write::Update(secret, version)) => drop(self.known.insert(secret, version)),
            (Ok(_), Write::Remove(_) | Write::Describe) => {}
            (Err(ProposeError::Conflict(_)), Write::Update(secret, _)) => drop(self.known.remove(&secret)),
            (Err(_), _) => self.manager = 1 + self.rng.below(managers),
        }
    }
}

/// A linearizable read: of everything, and of one payload.
async fn read(store: Store, pick: usize) -> Result<Seen, ProposeError> {
    if let Some(replica) = store.replica() {
        replica.linearize().await?;
    }
    let view = store.view();
    let secrets: BTreeMap<u64, u64> = view
        .secrets()
        .filter(|secret| is_clients(&secret.spec.name))
        .map(|secret| (secret_number(&secret.id), secret.version.0))
        .collect();
    let mut payload = None;
    if let Some((secret, version)) = secrets.iter().nth(pick % secrets.len().max(1)) {
        // Nobody may have taken it away meanwhile: then there is none.
        let read = store.payload(secret_id(*secret), *version).await.map_err(|_| ProposeError::Closed)?;
        payload = read.map(|read| (*secret, *version, SealedPayload::clone(&read)));
    }
    Ok(Seen { version: view.version(), secrets, payload })
}
