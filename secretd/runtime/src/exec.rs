//! A command in a running container.
//!
//! Each has a process of its own, `secretd container-exec`, because joining a container's namespaces needs one that has
//! a single thread. secretd and that process speak frames over a socket that it inherits as standard input.

mod message;
mod process;
mod spawn;

pub use process::main_exec;
pub use spawn::spawn;
