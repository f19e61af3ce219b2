//! Consensus: openraft over the [`Engine`](crate::engine::Engine).
//!
//! Reading order: [`config`] (openraft's types), [`shared`] (what log and state machine have in common), [`log`],
//! [`machine`], [`snapshot`], [`message`] (what managers say to each other), [`network`] (this one to others, with
//! [`reach`]), [`server`] (others to this one), [`past`], [`witness`] and [`meeting`] (a store that went back),
//! [`contents`] and [`stream`] (snapshots on their way), [`backup`], [`membership`],
//! [`actor`] (the thread that all of it runs on), [`reclaim`] and [`ballast`] (a full disk), [`alone`] (a lost majority),
//! [`proposer`] (the seam's implementation).

pub(crate) mod actor;
pub(crate) mod alone;
pub(crate) mod backup;
mod ballast;
pub(crate) mod config;
mod contents;
mod log;
mod machine;
mod meeting;
pub(crate) mod membership;
mod message;
mod network;
mod past;
pub(crate) mod proposer;
pub(crate) mod reach;
mod reclaim;
pub(crate) mod server;
mod shared;
mod snapshot;
#[cfg(test)]
mod snapshot_test;
pub(crate) mod stream;
#[cfg(test)]
mod suite_test;
pub(crate) mod witness;
#[cfg(test)]
mod witness_test;
