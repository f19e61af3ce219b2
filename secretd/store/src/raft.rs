//! Consensus: openraft over the [`Engine`](crate::engine::Engine).
//!
//! Reading order: [`config`] (openraft's types), [`shared`] (what log and state machine have in common), [`log`],
//! [`machine`], [`snapshot`], [`network`], [`actor`] (the thread that all of it runs on), [`reclaim`] and [`ballast`] (a full disk), [`proposer`] (the seam's
//! implementation).

pub(crate) mod actor;
mod ballast;
pub(crate) mod config;
mod log;
mod machine;
mod network;
pub(crate) mod proposer;
mod reclaim;
mod shared;
mod snapshot;
#[cfg(test)]
mod snapshot_test;
#[cfg(test)]
mod suite_test;
