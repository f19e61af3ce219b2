//! What clients of three managers see while managers are killed, held, cut off and half deaf is what one manager that
//! never fails could have told them (linearizability, on histories of the real binaries).
//!
//! A failed run prints its seed and the operations that have no order; `SEED` gives its choices again, and `HISTORIES` asks
//! for more of them.

use anyhow::{Context, Result, ensure};
use secretd_tests::campaign::{Chance, times};
use secretd_tests::history::{History, Record};
use secretd_tests::lab::{Lab, until};

/// Histories of `make test`.
const HISTORIES: usize = 20;
/// Operations of each.
const OPERATIONS: u64 = 2_000;
/// Faults during each, one after another.
const FAULTS: u64 = 3;

/// What happens to a manager for a while.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Held,
    CutOff,
    Deaf,
    Mute,
    Loses(u64),
}

impl Fault {
    fn any(chance: &mut Chance) -> Self {
        match chance.below(6) {
            0 => Self::Killed,
            1 => Self::Held,
            2 => Self::CutOff,
            3 => Self::Deaf,
            4 => Self::Mute,
            _ => Self::Loses(1 + chance.below(30)),
        }
    }

    fn begin(self, lab: &mut Lab, victim: usize) -> Result<()> {
        match self {
            Self::Killed => lab.node_mut(victim).kill_daemon(),
            Self::Held => lab.node(victim).pause_daemon(),
            Self::CutOff => lab.cut(victim),
            Self::Deaf => lab.deafen(victim),
            Self::Mute => lab.mute(victim),
            Self::Loses(percent) => lab.lose(victim, percent),
        }
    }

    fn end(self, lab: &mut Lab, victim: usize) -> Result<()> {
        match self {
            Self::Killed => lab.node_mut(victim).start_daemon(),
            Self::Held => lab.node(victim).resume_daemon(),
            Self::CutOff | Self::Deaf | Self::Mute | Self::Loses(_) => lab.heal(victim),
        }
    }
}

/// Whom it happens to: every other time the manager that leads, so that another must.
fn victim(lab: &Lab, chance: &mut Chance) -> usize {
    let any = 1 + chance.index(3);
    let leader = if chance.below(2) == 0 { lab.leader(any).ok() } else { None };
    leader.unwrap_or(any)
}

fn history(lab: &mut Lab, runtime: &tokio::runtime::Runtime, chance: &mut Chance) -> Result<Record> {
    let sockets = lab.nodes().iter().map(secretd_tests::node::Node::socket).collect();
    let name = format!("h{:x}", chance.seed());
    let history = {
        let _in_it = runtime.enter();
        History::begin(&name, OPERATIONS, sockets, chance)
    };
    let mut past = Vec::new();
    for number in 0..FAULTS {
        let part = OPERATIONS / (2 * FAULTS + 1);
        runtime.block_on(history.reach(part * (2 * number + 1)));
        let (victim, fault) = (victim(lab, chance), Fault::any(chance));
        past.push(format!("n{victim} {fault:?}"));
        fault.begin(lab, victim).with_context(|| format!("{past:?}"))?;
        runtime.block_on(history.reach(part * (2 * number + 2)));
        fault.end(lab, victim).with_context(|| format!("{past:?}"))?;
    }
    let record = runtime.block_on(history.end()).with_context(|| format!("{past:?}"))?;
    record.check().with_context(|| format!("{past:?}"))?;
    Ok(record)
}

#[test]
fn what_clients_see_under_faults_is_what_one_manager_could_have_told_them() -> Result<()> {
    let mut lab = Lab::cluster(3, 0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let first = Chance::new()?.seed();
    let (mut known, mut stale) = (0, 0);
    let histories = times("HISTORIES", HISTORIES)?;
    for number in 0..histories {
        let seed = first.wrapping_add(number as u64);
        let record = history(&mut lab, &runtime, &mut Chance::of(seed));
        let record = record.with_context(|| format!("SEED={seed} HISTORIES=1"))?;
        let (with_outcome, without) = record.count();
        println!("history {number}, seed {seed}: {with_outcome} operations, {without} without a known outcome");
        known += with_outcome;
        stale += record.stale();
        until("everybody is there again", || lab.leader(1).map(Some))?;
    }
    // How many depends on the machine.
    ensure!(known > 0 && stale > 0, "{known} operations and {stale} stale reads were answered");
    Ok(())
}
