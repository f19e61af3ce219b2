//! The state machine: applies committed entries to the state, publishes what happened, and leaves the changed records
//! for the next commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};

use super::config::{
    Batch, Entry, LogId, Outcomes, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TypeConfig, any_error,
};
use super::shared::Shared;
use super::snapshot::StateSnapshot;
use crate::apply::apply;
use crate::conflict::Conflict;
use crate::engine::{Key, Scan, Writes};
use crate::event::Change;
use crate::failure::StorageFailure;
use crate::op::{Op, PayloadRef, Proposal};
use crate::record::{self, Applied};
use crate::state::{Record, RecordKey, State};
use crate::view::View;

/// Bytes of payloads that are copied in one commit when a snapshot is installed.
const COPIED_AT_ONCE: usize = 4 * 1024 * 1024;

/// The state of one node, up to `last_applied`.
#[derive(Debug)]
pub(crate) struct StateMachine {
    shared: Arc<Shared>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<Snapshot<TypeConfig>>,
}

impl StateMachine {
    /// Reads the state from the disk and publishes it.
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, StorageFailure> {
        let applied = shared.engine.get(&Key::APPLIED)?.map(|bytes| record::decode_applied(&bytes)).transpose()?;
        let applied = applied.unwrap_or_default();
        let mut state = State { version: applied.version, ..State::default() };
        shared.engine.scan(&Key::state_first(), &Key::state_last(), |_, bytes| {
            state.put(record::decode_record(&bytes)?);
            Ok(Scan::Next)
        })?;
        shared.publisher.replace(View::new(state));
        shared.set_applied(applied.log_id);
        Ok(Self { shared, last_applied: applied.log_id, membership: applied.membership, snapshot: None })
    }

    fn apply_entry(&mut self, entry: Entry) -> Outcomes {
        self.last_applied = Some(entry.log_id);
        self.shared.set_applied(self.last_applied);
        match entry.payload {
            EntryPayload::Blank => Outcomes::default(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcomes::default()
            }
            EntryPayload::Normal(Batch(proposals)) => {
                let index = entry.log_id.index;
                Outcomes(proposals.iter().map(|proposal| self.apply_proposal(index, proposal)).collect())
            }
        }
    }

    fn apply_proposal(&self, index: u64, proposal: &Proposal) -> Result<secretd_core::time::Version, Conflict> {
        let before = self.shared.publisher.view();
        let brought = proposal.ops.iter().filter_map(Op::payload);
        let brought = brought.map(|(_, payload)| PayloadRef { index, slot: payload.slot() });
        let applied = match apply(before.state(), index, proposal) {
            Ok(applied) => applied,
            Err(conflict) => {
                self.shared.stage_garbage(brought);
                return Err(conflict);
            }
        };
        let kept = payloads_of(&applied.state, &applied.touched);
        let known = payloads_of(before.state(), &applied.touched).into_iter().chain(brought);
        self.shared.stage_garbage(known.filter(|at| !kept.contains(at)));
        self.shared.stage(applied.touched.iter().map(|key| {
            let record = applied.state.get(*key).map(|record| record::encode_record(&record));
            (Key::state(*key), record)
        }));
        let view = View::new(applied.state);
        let version = view.version();
        if !applied.events.is_empty() {
            self.shared.publisher.publish(Change { version, at: proposal.at, events: applied.events, view });
        }
        Ok(version)
    }

    fn applied_record(&self) -> Vec<u8> {
        record::encode_applied(&Applied {
            log_id: self.last_applied,
            membership: self.membership.clone(),
            version: self.shared.publisher.view().version(),
        })
    }

    fn take_snapshot(&mut self) -> Snapshot<TypeConfig> {
        let index = self.last_applied.map_or(0, |log_id| log_id.index);
        let data = self.shared.snapshot();
        let meta = SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}"),
        };
        let snapshot = Snapshot { meta, snapshot: Box::new(data) };
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    fn install(&mut self, meta: &SnapshotMeta, snapshot: &StateSnapshot) -> Result<(), Arc<StorageFailure>> {
        self.copy_payloads(snapshot)?;
        let last = meta.last_log_id.map_or(0, |log_id| log_id.index);
        let mut writes = self.shared.delayed_purge(last)?;
        writes.append(self.drop_other_payloads(last, snapshot)?);
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        writes.delete_all(Key::state_first(), Key::state_last());
        for record in snapshot.view.state().keys().filter_map(|key| snapshot.view.state().get(key)) {
            writes.put(Key::state(record.key()), record::encode_record(&record));
        }
        let view = View::clone(&snapshot.view);
        self.shared.publisher.replace(view.clone());
        writes.put(Key::APPLIED, self.applied_record());
        self.shared.commit(writes)?;
        self.shared.set_applied(self.last_applied);
        let installed = StateSnapshot { view: Arc::new(view), source: Arc::clone(&self.shared.engine) };
        self.shared.pins.add(&installed);
        self.snapshot = Some(Snapshot { meta: meta.clone(), snapshot: Box::new(installed) });
        Ok(())
    }

    /// Copies the payloads that are not here yet. After a crash some are here already, and nothing refers to them.
    fn copy_payloads(&self, snapshot: &StateSnapshot) -> Result<(), Arc<StorageFailure>> {
        if Arc::ptr_eq(&snapshot.source, &self.shared.engine) {
            return Ok(());
        }
        // Beyond what is applied, an entry of another leader may have brought another payload to the same place.
        let agreed = self.last_applied.map_or(0, |log_id| log_id.index);
        let (mut writes, mut size) = (Writes::default(), 0);
        for at in snapshot.view.state().payloads() {
            let key = Key::payload(at);
            if at.index <= agreed && self.shared.engine.get(&key)?.is_some() {
                continue;
            }
            let missing = || StorageFailure::Inconsistent { what: format!("{key} of the snapshot is missing") };
            let payload = snapshot.source.get(&key)?.ok_or_else(missing)?;
            size += payload.len();
            writes.put(key, payload.to_vec());
            if size >= COPIED_AT_ONCE {
                self.shared.commit(std::mem::take(&mut writes))?;
                size = 0;
            }
        }
        self.shared.commit(writes)
    }

    /// Drops what log entries up to `last` brought and the installed state does not refer to: those entries are replaced
    /// by it.
    fn drop_other_payloads(&self, last: u64, snapshot: &StateSnapshot) -> Result<Writes, StorageFailure> {
        let mut wanted: BTreeSet<PayloadRef> = snapshot.view.state().payloads().collect();
        wanted.extend(self.shared.pins.payloads());
        let wanted: BTreeSet<Key> = wanted.into_iter().map(Key::payload).collect();
        let (first, last) = (PayloadRef::FIRST, PayloadRef::last_of(last));
        let mut writes = Writes::default();
        for key in self.shared.engine.keys(&Key::payload(first), &Key::payload(last))? {
            if !wanted.contains(&key) {
                writes.delete(key);
            }
        }
        writes.delete_all(Key::garbage(first), Key::garbage(last));
        Ok(writes)
    }
}

fn payloads_of(state: &State, keys: &BTreeSet<RecordKey>) -> BTreeSet<PayloadRef> {
    let records = keys.iter().filter_map(|key| state.get(*key));
    let secrets = records.filter_map(|record| match record {
        Record::Secret(secret) => Some(secret),
        Record::Cluster(_) | Record::Service(_) | Record::Task(_) | Record::Node(_) => None,
    });
    secrets.flat_map(|secret| secret.payloads.places().collect::<Vec<_>>()).collect()
}

/// Builds snapshots of the state as it was when the builder was asked for.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder(Snapshot<TypeConfig>);

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        Ok(self.0.clone())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let outcomes = entries.into_iter().map(|entry| self.apply_entry(entry)).collect();
        self.shared.stage([(Key::APPLIED, Some(self.applied_record()))]);
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(self.take_snapshot())
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<StateSnapshot>, StorageError> {
        Ok(Box::new(StateSnapshot { view: Arc::default(), source: Arc::clone(&self.shared.engine) }))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<StateSnapshot>,
    ) -> Result<(), StorageError> {
        let installed = self.install(meta, &snapshot);
        installed.map_err(|failure| StorageIOError::write_snapshot(Some(meta.signature()), any_error(failure)).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(self.snapshot.clone())
    }
}
