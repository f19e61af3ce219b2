//! What happens in the cluster, told to people: `sctl events`.
//!
//! Made from the store's changes, with Docker's kinds, actions and attributes; tasks have events too, which Docker lacks.
//! Other parts of the node (images) add theirs. The last events are kept in memory for those who ask what has been.

mod tell;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_core::time::Timestamp;
use secretd_core::wire::time_to_wire;
use secretd_proto::v1;
use secretd_store::Store;
use tokio::sync::broadcast;

use crate::manager::Ended;

/// Events kept for `--since`.
const HISTORY: usize = 2048;
/// Events that a slow watcher may be behind.
const BACKLOG: usize = 1024;

/// The events of this node, and everyone who watches them.
#[derive(Debug, Clone)]
pub struct Events {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    history: VecDeque<Arc<v1::Event>>,
    live: broadcast::Sender<Arc<v1::Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let inner = Inner { history: VecDeque::new(), live: broadcast::Sender::new(BACKLOG) };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl Events {
    /// No events yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event of this node alone: an image that was pulled, tagged or removed.
    pub fn publish_local(&self, kind: &str, action: &str, id: &str, name: &str, at: Timestamp) {
        self.publish(v1::Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            attributes: [("name".to_owned(), name.to_owned())].into(),
            at: Some(time_to_wire(at)),
            version: 0,
        });
    }

    fn publish(&self, event: v1::Event) {
        let event = Arc::new(event);
        let mut inner = self.inner.lock();
        if inner.history.len() == HISTORY {
            inner.history.pop_front();
        }
        inner.history.push_back(Arc::clone(&event));
        let _nobody_watches = inner.live.send(event);
    }

    /// What is kept of the past, and everything from now on: nothing between them is missed or comes twice.
    pub(crate) fn subscribe(&self) -> (Vec<Arc<v1::Event>>, broadcast::Receiver<Arc<v1::Event>>) {
        let inner = self.inner.lock();
        (inner.history.iter().cloned().collect(), inner.live.subscribe())
    }

    /// Tells what the store's changes mean, for as long as it lives. Watches from the moment of the call.
    pub(crate) fn follow(self, store: &Store) -> impl Future<Output = Result<Infallible, Ended>> + Send + use<> {
        let (store, (_, mut watch)) = (store.clone(), store.view_and_watch());
        async move {
            loop {
                while let Some(change) = watch.next().await {
                    let told = change.events.iter().filter_map(|event| tell::event(event, &change));
                    told.for_each(|event| self.publish(event));
                }
                if store.is_closed() {
                    return Err(Ended::StoreClosed);
                }
                (_, watch) = store.view_and_watch();
            }
        }
    }
}
