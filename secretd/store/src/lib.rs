//! The replicated, sealed state of a cluster.
//!
//! Reading order: [`op`] (what can be asked), [`conflict`] (what is refused), `apply` (what an operation does, pure),
//! [`event`] (what happened), [`view`] and [`watch`] (what readers see), `proposer` (how proposals become changes:
//! locally, or through raft), [`peers`] (the way to other managers), [`store`] (all of it for managers).
//!
//! Deliberately absent: anything that opens a payload, and policy. Managers decide, the store keeps.

mod apply;
pub mod cluster;
#[cfg(test)]
mod cluster_test;
pub mod conflict;
mod engine;
pub mod event;
mod failure;
#[cfg(test)]
mod fixture;
mod ground;
mod kept;
#[cfg(any(test, feature = "testing"))]
mod local;
pub mod op;
pub mod peers;
mod proposer;
mod raft;
mod record;
pub mod replica;
#[cfg(feature = "testing")]
pub mod simulation;
mod state;
pub mod store;
pub mod view;
pub mod watch;

pub use crate::cluster::{ClusterKeys, ClusterRecord, Founding, JoinSecret, JoinSecretRefusal, Operator};
pub use crate::conflict::{Conflict, ObjectKind};
pub use crate::engine::OpenError;
pub use crate::event::{Change, Event};
pub use crate::failure::StorageFailure;
pub use crate::op::{Op, Payload};
pub use crate::peers::{Member, PeerError, Peers};
pub use crate::proposer::{ProposeError, ReadError};
pub use crate::raft::alone::AloneError;
pub use crate::raft::backup::{Backup, BackupError, Restore, Restored};
pub use crate::raft::membership::{Leadership, MemberStatus, MembershipError, keeps_quorum};
pub use crate::raft::server::{RaftServer, ServeError};
pub use crate::raft::witness::RolledBack;
pub use crate::replica::Replica;
pub use crate::store::Store;
pub use crate::view::View;
pub use crate::watch::Watch;
