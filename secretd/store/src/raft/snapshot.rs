//! A snapshot: the state as it was at one log id, and where its payloads are.
//!
//! Building one copies nothing. The state's maps are persistent, and payloads stay on the disk of the node that built it;
//! they are read one by one when another node installs the snapshot. As long as a snapshot lives, the payloads that it
//! refers to are not deleted ([`Pins`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::op::PayloadRef;
use crate::view::View;

/// The state at one moment.
#[derive(Debug, Clone)]
pub(crate) struct StateSnapshot {
    /// The state.
    pub(crate) view: Arc<View>,
    /// Where the payloads are that it refers to.
    pub(crate) source: Arc<Engine>,
}

/// The snapshots of this node that are still in use.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Vec<Weak<View>>>);

impl Pins {
    /// Keeps the payloads of `snapshot` for as long as a copy of it lives.
    pub(crate) fn add(&self, snapshot: &StateSnapshot) {
        let mut pins = self.0.lock();
        pins.retain(|pin| pin.strong_count() > 0);
        pins.push(Arc::downgrade(&snapshot.view));
    }

    /// The payloads that snapshots in use refer to.
    pub(crate) fn payloads(&self) -> BTreeSet<PayloadRef> {
        let pins = self.0.lock();
        pins.iter().filter_map(Weak::upgrade).flat_map(|view| view.state().payloads().collect::<Vec<_>>()).collect()
    }
}
