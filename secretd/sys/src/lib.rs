//! The only crate with unsafe code: one kernel facility a file, each behind a safe signature.
//!
//! Deliberately absent: policy. A function here does one thing the kernel offers, and says in its documentation what
//! the kernel does not promise.

pub mod allocator;
pub mod child;
pub mod frame;
pub mod inherited;
pub mod mount_api;
pub mod seccomp_filter;
pub mod secret_memory;
#[cfg(feature = "simulation")]
pub mod seeded_random;
pub mod spawn;
pub mod thread_group;
