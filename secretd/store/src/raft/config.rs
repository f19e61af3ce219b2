//! The types and timers that openraft is used with.

use std::sync::Arc;
use std::time::Duration;

use openraft::{AnyError, SnapshotPolicy};
use secretd_core::time::Version;

use super::snapshot::StateSnapshot;
use crate::conflict::Conflict;
use crate::failure::StorageFailure;
use crate::ground::LogLength;
use crate::op::Proposal;
use crate::peers::Member;

openraft::declare_raft_types!(
    /// openraft over our log and state.
    pub(crate) TypeConfig:
        D = Batch,
        R = Outcomes,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = StateSnapshot,
        AsyncRuntime = openraft::TokioRuntime,
);

/// Proposals that were waiting together: one log entry, one durable write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch(pub(crate) Arc<Vec<Proposal>>);

/// What became of each proposal of a batch; empty for entries of raft's own.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(pub(crate) Vec<Result<Version, Conflict>>);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Member>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StorageIOError = openraft::StorageIOError<u64>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;

/// How often a leader that has nothing to say says so.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

/// openraft's settings.
#[allow(clippy::cast_possible_truncation)] // 50
pub(crate) fn raft_config(log: LogLength) -> openraft::Config {
    openraft::Config {
        cluster_name: "secretd".to_owned(),
        // Whoever stands for election waits for the leader's lease (the longest timeout) and for its own timeout: a failed
        // leader is replaced within half a second. A manager that stalls for longer loses an election, nothing else.
        heartbeat_interval: HEARTBEAT.as_millis() as u64,
        election_timeout_min: 125,
        election_timeout_max: 250,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(log.between_snapshots),
        max_in_snapshot_log_to_keep: log.kept,
        // Fewer, larger purges: each is a durable commit.
        purge_batch_size: log.kept,
        ..openraft::Config::default()
    }
}

/// Our failures as openraft carries them.
pub(crate) fn any_error(failure: impl AsRef<StorageFailure>) -> AnyError {
    AnyError::new(failure.as_ref())
}
