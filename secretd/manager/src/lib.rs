//! The control plane of one manager: what users ask for becomes tasks, tasks get nodes, nodes get assignments.
//!
//! Reading order: [`manager`] (how it is put together), `api` (the calls of sctl) over `validate`, `reference`, `filter`
//! and `refusal`; `orchestrate`, `allocate` and `schedule` (pure) with their shell `reconcile`; `dispatch` (the calls of
//! agents); [`event`] and [`audit`] (what people are told).
//!
//! Deliberately absent: containers, and any type that holds a secret's plaintext. Managers and agents meet on the wire
//! alone.

mod allocate;
mod api;
pub mod audit;
mod dispatch;
pub mod event;
mod filter;
pub mod manager;
mod orchestrate;
mod random_name;
mod reconcile;
mod reference;
mod refusal;
mod schedule;
mod validate;

pub use crate::manager::{Deps, Manager};

#[cfg(test)]
mod sample;
