//! Who did what on the control API: ids and the caller, never names of objects, because the journal is on disk in clear.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;

use crate::caller::Caller;
use crate::refusal::Refusal;

/// Writes down the outcome of an action on the object with `id` and hands it on.
///
/// # Errors
/// The outcome's.
pub fn record<T>(
    caller: Option<Caller>,
    action: &'static str,
    id: impl Display,
    outcome: Result<T, Refusal>,
) -> Result<T, Refusal> {
    let outcome_word = match &outcome {
        Ok(_) => "done",
        Err(refusal) => refusal.code.as_str(),
    };
    match caller {
        Some(Caller::Local { uid, pid }) => {
            tracing::info!(target: "audit", action, %id, uid, pid, outcome = outcome_word);
        }
        Some(other) => tracing::info!(target: "audit", action, %id, caller = %other, outcome = outcome_word),
        None => tracing::info!(target: "audit", action, %id, outcome = outcome_word),
    }
    outcome
}

/// Callers that are machines, and go on asking, whose refusals are remembered.
const MACHINES: usize = 1024;

/// What nodes were refused. A node asks again and again, several times a second: each refusal is written down once, and
/// again when it is another, or was lifted in between. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<(NodeId, String), Code>>>);

impl Refusals {
    /// Writes down that a call was refused because of who made it.
    pub(crate) fn record(&self, caller: &Caller, path: &str, refusal: &Refusal) {
        if let Caller::Node { id, .. } = caller {
            let mut known = self.0.lock();
            if known.len() >= MACHINES {
                known.clear();
            }
            if known.insert((*id, path.to_owned()), refusal.code) == Some(refusal.code) {
                return;
            }
        }
        refused(caller, path, refusal);
    }

    /// The caller may make the call (again).
    pub(crate) fn forget(&self, caller: &Caller, path: &str) {
        if let Caller::Node { id, .. } = caller {
            let mut known = self.0.lock();
            if !known.is_empty() {
                known.remove(&(*id, path.to_owned()));
            }
        }
    }
}

/// Writes down that a call was refused because of who made it.
pub(crate) fn refused(caller: &Caller, path: &str, refusal: &Refusal) {
    tracing::warn!(target: "audit", action = path, %caller, outcome = refusal.code.as_str());
}
