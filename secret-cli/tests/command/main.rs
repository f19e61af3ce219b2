//! The real `sctl` against a server that gives fixed answers: exit codes, error lines, and what is never sent.

mod errors;
mod fake;
mod generated;
mod harness;
mod secrets;
mod services;
