//! What an operation does to the state: pure, deterministic, total. The same entries give the same state on every
//! replica and after every restart, so nothing here may read a clock, a random source or an environment.

mod cluster;
mod node;
mod operator;
mod secret;
mod service;
mod task;

use std::collections::BTreeSet;

use secretd_core::time::{Meta, Timestamp, Version};

use crate::conflict::Conflict;
use crate::event::Event;
use crate::op::{Op, Payload, PayloadRef, Proposal};
use crate::state::{Record, RecordKey, State};

/// What became of a proposal that was accepted.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The state after it.
    pub(crate) state: State,
    /// Empty when the state already was as asked; its version is then unchanged.
    pub(crate) events: Vec<Event>,
    /// Records that are different, there or gone.
    pub(crate) touched: BTreeSet<RecordKey>,
}

/// Applies the `proposal` that came with the log entry at `index` to `state`: all of it, or nothing.
///
/// # Errors
/// The first precondition that does not hold.
pub(crate) fn apply(state: &State, index: u64, proposal: &Proposal) -> Result<Applied, Conflict> {
    let version = Version(state.version.0 + 1);
    let mut transaction = Transaction {
        state: state.clone(),
        version,
        at: proposal.at,
        index,
        events: Vec::new(),
        touched: BTreeSet::new(),
    };
    for op in &proposal.ops {
        transaction.apply(op)?;
    }
    if !transaction.events.is_empty() {
        transaction.state.version = version;
    }
    Ok(Applied { state: transaction.state, events: transaction.events, touched: transaction.touched })
}

/// A proposal half applied.
struct Transaction {
    state: State,
    version: Version,
    at: Timestamp,
    index: u64,
    events: Vec<Event>,
    touched: BTreeSet<RecordKey>,
}

impl Transaction {
    fn apply(&mut self, op: &Op) -> Result<(), Conflict> {
        if let Op::InitCluster { record, node } = op {
            self.init_cluster(record)?;
            self.put_node(node);
            return Ok(());
        }
        if self.state.cluster.is_none() {
            return Err(Conflict::NotInitialized);
        }
        match op {
            Op::InitCluster { .. } => Err(Conflict::AlreadyInitialized),
            Op::CreateSecret { id, spec, length, payload } => self.create_secret(*id, spec, *length, payload),
            Op::UpdateSecret { id, expect, labels, payload } => {
                self.update_secret(*id, *expect, labels.as_ref(), payload.as_ref())
            }
            Op::RemoveSecret { id } => self.remove_secret(*id),
            Op::CreateService { id, spec } => self.create_service(*id, spec),
            Op::UpdateService { id, expect, spec, previous_spec, update_status } => {
                self.update_service(*id, *expect, spec, previous_spec.as_ref(), update_status.as_ref())
            }
            Op::SetUpdateStatus { id, status } => self.set_update_status(*id, status.as_ref()),
            Op::RemoveService { id } => self.remove_service(*id),
            Op::CreateTask { task } => self.create_task(task),
            Op::UpdateTaskStatus { id, node, status } => self.update_task_status(*id, *node, status),
            Op::SetTaskDesired { id, state } => self.set_task_desired(*id, *state),
            Op::AssignTask { id, node } => self.assign_task(*id, *node),
            Op::RemoveTask { id } => self.remove_task(*id),
            Op::PutNode { node } => {
                self.put_node(node);
                Ok(())
            }
            Op::UpdateCluster { expect, record } => self.update_cluster(*expect, record),
            Op::AdmitNode { node, secret } => self.admit_node(node, secret),
            Op::SetNodeSpec { id, expect, labels, availability } => {
                self.set_node_spec(*id, *expect, labels, *availability)
            }
            Op::SetNodeRole { id, manager } => self.set_node_role(*id, *manager),
            Op::RemoveNode { id } => self.remove_node(*id),
            Op::SetNodeStatus { id, state, message } => self.set_node_status(*id, *state, message),
            Op::SetNodeDescription { id, description } => self.set_node_description(*id, description),
            Op::SetNodeCertificate { id, certificate } => self.set_node_certificate(*id, *certificate),
            Op::PutOperator { operator } => self.put_operator(operator),
            Op::RevokeOperators { serials } => self.revoke_operators(serials),
        }
    }

    fn put(&mut self, record: Record) {
        self.touched.insert(record.key());
        self.state.put(record);
    }

    fn remove(&mut self, key: RecordKey) {
        self.touched.insert(key);
        self.state.remove(key);
    }

    fn meta_created(&self) -> Meta {
        Meta { version: self.version, created_at: self.at, updated_at: self.at }
    }

    fn meta_updated(&self, meta: Meta) -> Meta {
        Meta { version: self.version, updated_at: self.at, ..meta }
    }

    fn payload_ref(&self, payload: &Payload) -> PayloadRef {
        PayloadRef { index: self.index, slot: payload.slot() }
    }
}

#[cfg(test)]
pub(crate) mod tests;
