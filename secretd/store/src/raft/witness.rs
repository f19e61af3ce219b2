//! Managers bear witness of each other: each keeps how far the stores of the others had come, and tells them.
//!
//! A store that was put back to an earlier copy has forgotten votes and acknowledgements that others rest on. It cannot
//! know by itself; it finds out from the first of the others who does, before a vote or an entry of either counts. From
//! then on it takes no part. (What nobody who is left remembers is not found out: `docs/adr/0007`.)
//!
//! Who asks shows how far its store is and what it knows of the one it asks; who answers does the same. A position is
//! believed once its owner has found in its own past what was known of it before: an answer always is, a request when
//! `heard` says so, and otherwise the asker is first told what is known of it ([`Verdict::Stranger`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prost::Message;
use secretd_proto::v1;
use secretd_proto::v1::standing::Verdict;
use tokio::sync::watch;

use super::actor::draw;
use super::past::{Past, Position};
use crate::engine::{Engine, Key, Writes};
use crate::failure::StorageFailure;

/// Members of which something is remembered: more than any cluster has, with those that were replaced.
const MEMBERS: usize = 64;

/// This manager's store is older than it was: in one line, what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RolledBack(pub(crate) String);

impl RolledBack {
    fn found(by: impl fmt::Display, known: Position, now: u64) -> Self {
        Self(format!(
            "this manager's data directory was rolled back: {by} has known its store at commit {}, of which the store that is here (at {now}) knows nothing; it takes part no more: run \"sctl node demote\" and \"sctl node promote\" for this node on another manager, or \"sctl cluster leave --force\" here, and join again; when no other manager is left, restore the cluster from a backup, or go on with what is here by \"sctl cluster init --force-new-cluster\"",
            known.commits
        ))
    }
}

/// What this store is, and what it knows of others.
#[derive(Debug)]
pub(crate) struct Witness {
    engine: Arc<Engine>,
    member: u64,
    run: u64,
    past: Past,
    others: Mutex<Others>,
    changed: AtomicBool,
    rolled_back: watch::Sender<Option<RolledBack>>,
    doubt: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Others {
    /// How far their stores had come.
    known: BTreeMap<u64, Position>,
    /// What they have said of this one, and was so.
    heard: BTreeMap<u64, Position>,
}

impl Witness {
    /// Begins a run of the store of `member`.
    pub(crate) fn open(engine: &Arc<Engine>, member: u64) -> Result<Self, Arc<StorageFailure>> {
        let mut past = Past::from(stored::<v1::StoredRuns>(engine, &Key::RUNS)?);
        let known = stored::<v1::StoredWitness>(engine, &Key::WITNESS)?.members;
        let known = known.into_iter().filter_map(|of| Some((of.member, of.position?.into()))).collect();
        let run = draw();
        past.begin(Position { run, commits: engine.commits() + 1 });
        let mut writes = Writes::default();
        writes.put(Key::RUNS, v1::StoredRuns::from(&past).encode_to_vec());
        engine.commit(writes)?;
        Ok(Self {
            engine: Arc::clone(engine),
            member,
            run,
            past,
            others: Mutex::new(Others { known, heard: BTreeMap::new() }),
            changed: AtomicBool::new(false),
            rolled_back: watch::Sender::new(None),
            doubt: Mutex::default(),
        })
    }

    /// How far this store is.
    pub(crate) fn position(&self) -> Position {
        Position { run: self.run, commits: self.engine.commits() }
    }

    /// What is said to `member` beside a request.
    pub(crate) fn standing(&self, member: u64) -> v1::Standing {
        let others = self.others.lock();
        v1::Standing {
            member: self.member,
            own: Some(self.position().into()),
            known: others.known.get(&member).copied().map(Into::into),
            heard: others.heard.get(&member).copied().map(Into::into),
            verdict: Verdict::Served.into(),
        }
    }

    /// What is answered to somebody who has shown `standing`: a verdict with what is known of them. Only with
    /// [`Verdict::Served`] may the request be looked at.
    pub(crate) fn judge(&self, standing: Option<v1::Standing>, by: impl fmt::Display) -> v1::Standing {
        let shown = standing.unwrap_or_default();
        let verdict = match self.check(shown.known.map(Into::into), by) {
            Err(_) => Verdict::RolledBack,
            // Without a word of it nothing is known of the sender.
            Ok(()) if shown.own.is_some() && self.believe(&shown) => Verdict::Served,
            Ok(()) => Verdict::Stranger,
        };
        v1::Standing { verdict: verdict.into(), ..self.standing(shown.member) }
    }

    /// Takes in what was answered.
    ///
    /// # Errors
    /// When this store went back.
    pub(crate) fn answered(
        &self,
        standing: Option<v1::Standing>,
        by: impl fmt::Display,
    ) -> Result<Verdict, RolledBack> {
        let shown = standing.unwrap_or_default();
        let known: Option<Position> = shown.known.map(Into::into);
        self.check(known, by)?;
        if let Some(known) = known {
            self.others.lock().heard.insert(shown.member, known);
        }
        let verdict = shown.verdict();
        if verdict == Verdict::Served {
            self.remember(&shown);
        }
        Ok(verdict)
    }

    /// Whether this store was where somebody says that it was. If not, it takes part no more.
    pub(crate) fn check(&self, known: Option<Position>, by: impl fmt::Display) -> Result<(), RolledBack> {
        if let Some(already) = self.rolled_back.borrow().clone() {
            return Err(already);
        }
        let Some(known) = known.filter(|known| !self.was_at(*known)) else { return Ok(()) };
        let found = RolledBack::found(by, known, self.engine.commits());
        // So that the next start takes no part either. When it cannot be written, somebody will find out again.
        let mut writes = Writes::default();
        writes.put(Key::ROLLED_BACK, found.0.clone().into_bytes());
        let _ = self.engine.commit(writes);
        self.rolled_back.send_replace(Some(found.clone()));
        Err(found)
    }

    /// Whether this store was ever there.
    pub(crate) fn was_at(&self, place: Position) -> bool {
        self.past.has(place, self.engine.commits())
    }

    /// Tells when it is known that this store went back.
    pub(crate) fn rolled_back(&self) -> watch::Receiver<Option<RolledBack>> {
        self.rolled_back.subscribe()
    }

    /// A node that is no manager says that this store went back, or none does any more. That alone does not stop it: a node
    /// could say so of any.
    pub(crate) fn doubt(&self, why: Option<String>) {
        *self.doubt.lock() = why;
    }

    /// What was said last.
    pub(crate) fn doubted(&self) -> Option<String> {
        self.doubt.lock().clone()
    }

    /// Whether `member` has answered since this run began.
    pub(crate) fn has_met(&self, member: u64) -> bool {
        self.others.lock().heard.contains_key(&member)
    }

    /// Believes what a request says of its sender, if that has looked at what is known of it.
    fn believe(&self, shown: &v1::Standing) -> bool {
        let known = self.others.lock().known.get(&shown.member).copied();
        let own: Option<Position> = shown.own.map(Into::into);
        let is_same_run = known.map(|known| known.run) == own.map(|own| own.run);
        let has_looked = known.is_none() || is_same_run || known == shown.heard.map(Into::into);
        if has_looked {
            self.remember(shown);
        }
        has_looked
    }

    fn remember(&self, shown: &v1::Standing) {
        self.hear(&[v1::StoredWitnessed { member: shown.member, position: shown.own }]);
    }

    /// What is known of others, for a follower: it speaks to the leader alone, and may have to choose among them.
    pub(crate) fn tell(&self) -> Vec<v1::StoredWitnessed> {
        let known = self.others.lock().known.clone();
        known.into_iter().map(|(member, at)| v1::StoredWitnessed { member, position: Some(at.into()) }).collect()
    }

    /// Takes in what is known of others.
    pub(crate) fn hear(&self, told: &[v1::StoredWitnessed]) {
        let known = &mut self.others.lock().known;
        for of in told.iter().filter(|of| of.member != self.member) {
            let Some(position) = of.position.map(Position::from) else { continue };
            // Messages overtake each other; a store that has not gone back only gets longer.
            if known.get(&of.member).is_some_and(|known| known.commits >= position.commits) {
                continue;
            }
            if known.len() >= MEMBERS && !known.contains_key(&of.member) {
                known.clear(); // those that are there still are heard of at once
            }
            known.insert(of.member, position);
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// What is known of others, to be written down with the next commit, if it is not yet.
    pub(crate) fn take_changed(&self) -> Option<(Key, Vec<u8>)> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        Some((Key::WITNESS, v1::StoredWitness { members: self.tell() }.encode_to_vec()))
    }
}

fn stored<M: Message + Default>(engine: &Engine, key: &Key) -> Result<M, Arc<StorageFailure>> {
    let bytes = engine.get(key)?;
    let decoded = bytes.map(|bytes| M::decode(bytes.as_slice())).transpose();
    Ok(decoded.map_err(|_| StorageFailure::Damaged { what: key.to_string() })?.unwrap_or_default())
}
