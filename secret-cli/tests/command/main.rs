//! The real `sctl` against a server that gives fixed answers: exit codes, error lines, and what is never sent.

#![allow(clippy::unwrap_used, unreachable_pub)] // clippy knows tests by their attribute, and not what they call

mod errors;
mod fake;
mod generated;
mod harness;
mod secrets;
mod services;
