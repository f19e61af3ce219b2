//! The control plane of one manager: what users ask for becomes tasks, tasks get nodes, nodes get assignments.
//!
//! Reading order: [`manager`] (how it is put together); [`door`] (every call comes through it) with [`caller`],
//! `authorize`, `revocation` and `forward`; `api` (the calls of sctl) over `validate`, `reference`, `filter`, `natural` and [`refusal`]; `admission` and [`found`]
//! (how nodes come in); `lead` (what the leader alone does): `orchestrate`, `allocate` and `schedule` (pure) with their
//! shell `reconcile`, `roles` and `rotation`; `dispatch` (the calls of agents) with `directory`; `raft_service` (the calls of other
//! managers); [`event`] and `audit` (what people are told).
//!
//! Deliberately absent: containers, and any type that holds a secret's plaintext. Managers and agents meet on the wire
//! alone.

pub mod admission;
mod allocate;
mod api;
pub mod audit;
mod authorize;
pub mod caller;
mod directory;
mod dispatch;
pub mod door;
pub mod event;
mod filter;
mod forward;
pub mod found;
mod lead;
pub mod links;
pub mod manager;
mod natural;
mod orchestrate;
mod raft_service;
mod random_name;
mod reconcile;
mod reference;
pub mod refusal;
mod revocation;
mod roles;
mod rotation;
pub mod schedule;
mod validate;

pub use crate::caller::{Caller, Shown};
pub use crate::links::{Links, Unreached};
pub use crate::manager::{Counts, Deps, Manager};

#[cfg(test)]
mod sample;
