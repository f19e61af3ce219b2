//! Containers of one node.
//!
//! Reading order: [`images`] (what containers are made from), [`shim_config`] (what one is made of), [`spec`] (as an OCI
//! specification, pure), `seccomp` and `executor` (the last steps before the program), [`shim`] (the process of one
//! container), [`exec`] (a command in one), [`container`] (all of them: the runtime), [`own_program`], `log_reader`, [`secret_mount`] (the
//! node's side of secret-fs), [`node_facts`].

pub mod container;
pub mod exec;
mod executor;
mod frames;
pub mod images;
mod log_reader;
pub mod node_facts;
pub mod own_program;
mod seccomp;
pub mod secret_mount;
pub mod shim;
pub mod shim_config;
pub mod spec;
mod timestamp;

pub use container::ContainerRuntime;
pub use secret_mount::SecretFs;
