//! The only process with plaintext: the FUSE filesystem of granted secrets.
//!
//! Reading order: [`start`], [`protection`] (how it locks itself in), [`server`] (what it is asked for), [`registry`] (which task
//! has which secrets), [`payload`] and [`bounce`] (where plaintext lives), [`view`] and [`tree`] (what a task sees),
//! [`filesystem`] and [`access`] (who may open it), [`audit`] (what is recorded).
//!
//! Deliberately absent: any file of its own, the network, names of secrets in any output, and asynchronous runtimes.

mod access;
mod args;
mod audit;
mod bounce;
mod caller;
mod clock;
mod connections;
mod filesystem;
mod next_request;
mod node_key;
mod payload;
mod protection;
mod registry;
mod server;
mod session;
mod start;
mod tree;
mod view;

use std::io::Write;
use std::process::ExitCode;

use crate::args::Args;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    match start::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &dyn std::error::Error) {
    let mut line = format!("secret-fs: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line.push('\n');
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
