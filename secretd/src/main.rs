//! secretd: the daemon of one node, and, as `secretd shim` and `secretd container-exec`, the processes of its
//! containers.

mod api_thread;
mod app;
mod child;
mod cluster;
mod config;
mod control_socket;
mod credential;
mod directories;
mod harden;
mod identity;
mod node;
mod notify;
mod server;

use std::process::ExitCode;

use clap::Parser;

use crate::config::{Config, Flags};

fn main() -> ExitCode {
    // The processes of containers fork: they must begin before this one has a second thread.
    if let Some(code) = child::main_if_child() {
        return code;
    }
    let config = match Config::load(Flags::parse()) {
        Ok(config) => config,
        Err(error) => return refuse(&error, ExitCode::from(2)),
    };
    match app::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&*error, ExitCode::FAILURE),
    }
}

/// One line for people, with every cause.
fn refuse(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    #[allow(clippy::print_stderr)] // the log is not there yet, or the process ends
    {
        eprintln!("secretd: {}", line.replace('\n', " "));
    }
    code
}
