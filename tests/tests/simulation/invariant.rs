//! What must hold at every moment, whatever the faults: one file each.

mod committed;
mod durable;
mod epochs;
mod leader_ids;
mod linearizable;
mod log_matching;
mod nonces;
mod payloads;
mod phantom;
mod placement;
mod quorum;
mod secrecy;
mod state_machine;
mod versions;
mod votes;

use std::collections::BTreeMap;

use secretd_store::View;
use secretd_store::simulation::{EntryId, Inspection, LoggedEntry, Standing};

use crate::history::{Attempt, History};
use crate::net::Net;
use crate::node::Node;

/// A node whose store is open.
#[derive(Debug)]
pub(crate) struct NodeSight {
    pub(crate) index: usize,
    /// Counts its processes: what was known of an earlier one must be looked at again.
    pub(crate) life: u64,
    pub(crate) standing: Standing,
    pub(crate) view: View,
    pub(crate) inspection: Inspection,
    /// Of its log: what was not seen before, after the last that was.
    pub(crate) entries: Vec<LoggedEntry>,
}

/// What a client was told since the last look.
#[derive(Debug)]
pub(crate) enum News {
    Acknowledged {
        node: usize,
        attempt: Attempt,
    },
    Read {
        node: usize,
        floor: u64,
        version: u64,
    },
    /// Bytes of one version of a secret were read, and are not what they should be.
    WrongPayload(String),
}

/// The whole cluster at one moment.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) nodes: &'a [NodeSight],
    pub(crate) workers: &'a [Node],
    /// The logs of members that are down, as they were; none of one that could not be read any more.
    pub(crate) down: &'a BTreeMap<u64, Option<Vec<LoggedEntry>>>,
    pub(crate) news: &'a [News],
    pub(crate) history: &'a History,
    pub(crate) net: &'a Net,
}

/// One thing that must hold.
pub(crate) trait Invariant {
    /// As the report of a violation calls it.
    fn name(&self) -> &'static str;

    /// Looks at a moment.
    fn check(&mut self, sight: &Sight<'_>) -> Result<(), String>;

    /// Looks at the healed cluster: every node is up and has everything.
    fn check_end(&mut self, _: &Sight<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// All of them; those of tasks and secrets where there are workers.
pub(crate) fn all(has_workers: bool) -> Vec<Box<dyn Invariant>> {
    let mut all: Vec<Box<dyn Invariant>> = vec![
        Box::<leader_ids::LeaderIds>::default(),
        Box::<log_matching::LogMatching>::default(),
        Box::<committed::Committed>::default(),
        Box::<state_machine::StateMachine>::default(),
        Box::<quorum::Quorum>::default(),
        Box::<votes::Votes>::default(),
        Box::<versions::Versions>::default(),
        Box::<linearizable::Linearizable>::default(),
        Box::new(phantom::Phantom { counts: !has_workers }),
        Box::<payloads::Payloads>::default(),
        Box::<nonces::Nonces>::default(),
        Box::<durable::Durable>::default(),
    ];
    if has_workers {
        all.push(Box::<placement::Placement>::default());
        all.push(Box::<secrecy::Secrecy>::default());
        all.push(Box::<epochs::Epochs>::default());
    }
    all
}

/// Reads the entries of each log once: all of a process that is seen for the first time and of a log whose end is
/// another, else what was added.
#[derive(Debug, Default)]
pub(crate) struct NewEntries(BTreeMap<(usize, u64), EntryId>);

impl NewEntries {
    pub(crate) fn of(&mut self, node: (usize, u64), inspection: &Inspection) -> Result<Vec<LoggedEntry>, String> {
        let known = self.0.get(&node).copied();
        let read =
            |first| inspection.log(first).map_err(|error| format!("the log of {node:?} cannot be read: {error}"));
        let mut entries = read(known.map_or(0, |known| known.index))?;
        if known.is_some() && entries.first().map(|entry| entry.id) != known {
            entries = read(0)?;
        }
        if let Some(last) = entries.last() {
            self.0.insert(node, last.id);
        }
        Ok(entries)
    }
}
