//! Who did what on the control API: ids and the caller, never names of objects, because the journal is on disk in clear.

use std::fmt::Display;

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

/// Writes down that a call was refused because of who made it.
pub(crate) fn refused(caller: &Caller, path: &str, refusal: &Refusal) {
    tracing::warn!(target: "audit", action = path, %caller, outcome = refusal.code.as_str());
}
