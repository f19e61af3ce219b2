//! What is told of tasks: the latest status of each, sent as soon as a manager takes it, and again to a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_core::task::TaskStatus;
use secretd_proto::id::TaskId;
use tokio::sync::Notify;

/// The statuses of this node's tasks. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    latest: BTreeMap<TaskId, TaskStatus>,
    unsent: BTreeSet<TaskId>,
    /// Sent, and not answered yet.
    under_way: BTreeSet<TaskId>,
}

impl Reports {
    /// A task's new status.
    pub(crate) fn report(&self, task: TaskId, status: TaskStatus) {
        let mut state = self.0.state.lock();
        state.latest.insert(task, status);
        state.unsent.insert(task);
        drop(state);
        self.0.news.notify_one();
    }

    /// A manager has forgotten the task.
    pub(crate) fn forget(&self, task: &TaskId) {
        let mut state = self.0.state.lock();
        state.latest.remove(task);
        state.unsent.remove(task);
        state.under_way.remove(task);
    }

    /// Returns once a manager has taken the task's latest status. Cancel-safe.
    pub(crate) async fn told(&self, task: &TaskId) {
        loop {
            let taken = self.0.taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable(); // before looking, so that nothing is missed in between
            if self.is_told(task) {
                return;
            }
            taken.await;
        }
    }

    fn is_told(&self, task: &TaskId) -> bool {
        let state = self.0.state.lock();
        !state.unsent.contains(task) && !state.under_way.contains(task)
    }

    /// Everything is told again: the manager is another one.
    pub(crate) fn all_unsent(&self) {
        let mut state = self.0.state.lock();
        state.unsent = state.latest.keys().copied().collect();
        state.under_way.clear();
        drop(state);
        self.0.news.notify_one();
    }

    /// What is to be told, once there is something. Cancel-safe: nothing is taken before it returns.
    pub(crate) async fn next(&self) -> Vec<(TaskId, TaskStatus)> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.0.news.notified().await;
        }
    }

    fn take(&self) -> Vec<(TaskId, TaskStatus)> {
        let mut state = self.0.state.lock();
        let unsent = std::mem::take(&mut state.unsent);
        let statuses =
            unsent.iter().filter_map(|task| state.latest.get(task).map(|status| (*task, status.clone()))).collect();
        state.under_way = unsent;
        statuses
    }

    /// A manager has taken what [`Self::next`] gave last.
    pub(crate) fn acknowledge(&self) {
        self.0.state.lock().under_way.clear();
        self.0.taken.notify_waiters();
    }
}
