//! The control plane of one manager.
mod allocate;
mod dispatch;
mod filter;
mod manager;
mod orchestrate;
mod reconcile;
mod reference;
mod refusal;
#[cfg(test)]
mod sample;
mod schedule;
