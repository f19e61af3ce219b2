//! Giving space back when the disk is full: what was removed is still in the log, and the file does not shrink by itself.
//!
//! Both are what makes removing cheap, so it is done only when a proposal would be refused otherwise.

use std::time::Duration;

use tracing::{info, warn};

use super::config::{Metrics, Raft};
use super::shared::Shared;
use crate::engine::Writes;

/// Each step is a commit or two; beyond this a refusal is the better answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Forgets the log of what is applied, deletes what nothing refers to any more, and shortens the file.
pub(super) async fn reclaim(raft: &Raft, shared: &Shared) {
    if let Err(reason) = forget_log(raft, shared).await {
        warn!(reason, "the log cannot be shortened");
        return;
    }
    match shared.engine.compact() {
        Ok(bytes) => info!(bytes, "the store's file was shortened"),
        Err(failure) => warn!(error = %failure, "the store's file cannot be shortened"),
    }
}

async fn forget_log(raft: &Raft, shared: &Shared) -> Result<(), String> {
    // What proposals left to be deleted is known to the engine only after a commit.
    shared.commit(Writes::default()).map_err(|failure| failure.to_string())?;
    let Some(applied) = raft.metrics().borrow().last_applied else { return Ok(()) };
    raft.trigger().snapshot().await.map_err(|error| error.to_string())?;
    let built = move |metrics: &Metrics| metrics.snapshot >= Some(applied);
    raft.wait(Some(TIMEOUT)).metrics(built, "a snapshot").await.map_err(|error| error.to_string())?;
    raft.trigger().purge_log(applied.index).await.map_err(|error| error.to_string())?;
    let purged = move |metrics: &Metrics| metrics.purged >= Some(applied);
    raft.wait(Some(TIMEOUT)).metrics(purged, "a purge").await.map_err(|error| error.to_string())?;
    Ok(())
}
