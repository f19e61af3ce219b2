//! The proposer of tests: applies at once, in memory, with the same rules as the replicated one. It never fails and
//! forgets everything when it is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use secretd_core::seam::clock::Clock;
use secretd_core::secret::SealedPayload;
use secretd_core::time::Version;

use crate::apply::apply;
use crate::event::Change;
use crate::failure::StorageFailure;
use crate::op::{Op, PayloadRef, Proposal, number_payloads};
use crate::proposer::{ProposeError, Proposer, ReadError, check_payloads};
use crate::view::View;
use crate::watch::Publisher;

/// Applies proposals in memory.
#[derive(Debug)]
pub(crate) struct LocalProposer {
    clock: Arc<dyn Clock>,
    publisher: Arc<Publisher>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    index: u64,
    payloads: BTreeMap<PayloadRef, Arc<SealedPayload>>,
}

impl LocalProposer {
    pub(crate) fn new(clock: Arc<dyn Clock>, publisher: Arc<Publisher>) -> Self {
        Self { clock, publisher, log: Mutex::default() }
    }
}

#[async_trait]
impl Proposer for LocalProposer {
    async fn propose(&self, ops: Vec<Op>) -> Result<Version, ProposeError> {
        check_payloads(&ops)?;
        let mut proposals = [Proposal { at: self.clock.now(), ops }];
        number_payloads(&mut proposals);
        let [proposal] = proposals;
        let mut log = self.log.lock();
        log.index += 1;
        let index = log.index;
        let applied = apply(self.publisher.view().state(), index, &proposal)?;
        let payloads = proposal.ops.iter().filter_map(Op::payload).filter_map(|(_, payload)| {
            Some((PayloadRef { index, slot: payload.slot() }, Arc::clone(payload.sealed()?)))
        });
        log.payloads.extend(payloads);
        let view = View::new(applied.state);
        let version = view.version();
        if !applied.events.is_empty() {
            self.publisher.publish(Change { version, at: proposal.at, events: applied.events, view });
        }
        Ok(version)
    }

    async fn payload(&self, at: PayloadRef) -> Result<Option<Arc<SealedPayload>>, ReadError> {
        Ok(self.log.lock().payloads.get(&at).cloned())
    }

    async fn failed(&self) -> Arc<StorageFailure> {
        std::future::pending().await
    }

    async fn shutdown(&self) {
        self.publisher.close();
    }
}
