//! The node's side of the cluster: it brings each assigned task to the wanted state, and tells how far it is.
//!
//! Reading order: [`agent`] (how it is put together), [`managers`] (the way to them), `session` (the conversation with a manager), `seen` (whether it went back), `assignment` (what it
//! says, parsed), `worker` (which tasks there are), `runner` (one task's life), `secrets` (a task's secrets in
//! secret-fs), `report` (what is told), `work` (logs and exec), [`images_api`] and [`volumes_api`] (the images and the volumes of this node).
//!
//! Deliberately absent: containers and secret-fs themselves. The agent knows the seams alone.

pub mod agent;
mod assignment;
pub mod images_api;
pub mod managers;
mod report;
mod runner;
mod secrets;
mod seen;
mod session;
pub mod volumes_api;
mod work;
mod worker;

pub use agent::{Agent, Deps};
pub use managers::Managers;
