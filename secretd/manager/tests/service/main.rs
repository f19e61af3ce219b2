//! The manager through its gRPC services, with the store in memory and an agent that speaks the Dispatcher's protocol and
//! opens what it is granted, as secret-fs would. Time is paused: waiting takes none.

#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)] // clippy knows tests by their attribute, and not what they call

mod agent;
mod harness;

mod bad_input;
mod delivery;
mod events;
mod lifecycle;
mod node_loss;
mod update;
mod work;
