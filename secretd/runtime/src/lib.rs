//! Containers of one node.
//!
//! Reading order: [`shim_config`] (what a container is made of), [`spec`] (as an OCI specification, pure), `seccomp` and
//! `executor` (the last steps before the program), [`shim`] (the process of one container), [`exec`] (a command in one).

pub mod exec;
mod executor;
pub mod images;
mod seccomp;
pub mod shim;
pub mod shim_config;
pub mod spec;
mod timestamp;
