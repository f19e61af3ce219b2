//! What only the manager that leads does: its loops run while it leads, and end when another does.

use std::convert::Infallible;
use std::sync::Arc;

use secretd_core::seam::clock::Clock;
use secretd_store::Store;
use tokio::task::JoinSet;

use crate::dispatch::session::Sessions;
use crate::manager::Ended;
use crate::reconcile::Reconciler;
use crate::{roles, rotation};

/// Runs the loops whenever this manager leads, for as long as the store lives.
pub(crate) async fn lead(store: Store, clock: Arc<dyn Clock>, sessions: Sessions) -> Result<Infallible, Ended> {
    let Some(replica) = store.replica().cloned() else {
        return ended(loops(&store, &clock, &sessions).join_next().await);
    };
    let mut leadership = replica.watch_leadership();
    let mut running: Option<(u64, JoinSet<Result<Infallible, Ended>>)> = None;
    loop {
        let ends = async {
            match &mut running {
                Some((_, loops)) => loops.join_next().await,
                None => std::future::pending().await,
            }
        };
        // Both are cancel-safe.
        tokio::select! {
            biased;
            now = leadership.next() => {
                let now = now.ok_or(Ended::StoreClosed)?;
                let runs = running.as_ref().map(|(term, _)| *term);
                if runs.is_some() && (!now.leads || runs != Some(now.term)) {
                    tracing::info!(term = now.term, "this manager leads no more");
                    running = None;
                    sessions.end_all(); // their nodes go to the new leader
                }
                if now.leads && running.is_none() {
                    tracing::info!(term = now.term, "this manager leads");
                    running = Some((now.term, loops(&store, &clock, &sessions)));
                }
            }
            ended_loop = ends => return ended(ended_loop),
        }
    }
}

fn loops(store: &Store, clock: &Arc<dyn Clock>, sessions: &Sessions) -> JoinSet<Result<Infallible, Ended>> {
    let mut loops = JoinSet::new();
    loops.spawn(Reconciler::new(store.clone(), Arc::clone(clock)).run());
    loops.spawn(sessions.clone().watch_over(store.clone()));
    loops.spawn(roles::keep(store.clone()));
    loops.spawn(rotation::keep(store.clone(), Arc::clone(clock)));
    loops
}

fn ended(end: Option<Result<Result<Infallible, Ended>, tokio::task::JoinError>>) -> Result<Infallible, Ended> {
    match end {
        Some(Ok(end)) => end,
        Some(Err(error)) => Err(Ended::Panicked(error.to_string())),
        None => Err(Ended::StoreClosed),
    }
}
