//! The current view, and everyone who wants to see each change after it.
//!
//! Taking a view and subscribing happen under the lock under which changes are published: no change is missed between
//! the two and none is seen twice.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::event::Change;
use crate::view::View;

/// Every change after a view, in order. Dropping it ends the subscription.
///
/// Changes wait in memory until they are taken: they share their objects with the state, so a slow reader costs little,
/// but one that never reads again must drop its watch.
#[derive(Debug)]
pub struct Watch(UnboundedReceiver<Arc<Change>>);

impl Watch {
    /// The next change; `None` once the store is closed, or its state was replaced as a whole, and all changes are taken.
    ///
    /// Cancel-safe: a change that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Arc<Change>> {
        self.0.recv().await
    }

    /// The next change, if it is there already.
    pub fn try_next(&mut self) -> Option<Arc<Change>> {
        self.0.try_recv().ok()
    }
}

/// Holds the current view and its subscribers.
#[derive(Debug, Default)]
pub(crate) struct Publisher(Mutex<Published>);

#[derive(Debug, Default)]
struct Published {
    view: View,
    subscribers: Vec<UnboundedSender<Arc<Change>>>,
    closed: bool,
}

impl Publisher {
    pub(crate) fn view(&self) -> View {
        self.0.lock().view.clone()
    }

    pub(crate) fn view_and_watch(&self) -> (View, Watch) {
        let (tx, rx) = unbounded_channel();
        let mut published = self.0.lock();
        if !published.closed {
            published.subscribers.push(tx);
        }
        (published.view.clone(), Watch(rx))
    }

    /// Makes a change visible. There is one writer, so versions only grow.
    pub(crate) fn publish(&self, change: Change) {
        let change = Arc::new(change);
        let mut published = self.0.lock();
        published.view = change.view.clone();
        published.subscribers.retain(|subscriber| subscriber.send(Arc::clone(&change)).is_ok());
    }

    /// Puts another state in place of the current one, as a snapshot from another node does. Watchers cannot be told
    /// what changed, so their watches end and they begin again.
    pub(crate) fn replace(&self, view: View) {
        let mut published = self.0.lock();
        published.view = view;
        published.subscribers.clear();
    }

    /// Whether no watch will ever see a change again.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        let mut published = self.0.lock();
        published.closed = true;
        published.subscribers.clear();
    }
}

#[cfg(test)]
mod tests;
