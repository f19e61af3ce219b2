//! `sctl`: the command of secretd. It seals secrets, so that nothing else outside of a container ever has them in clear,
//! and shows and changes everything else through the control socket.
//!
//! Reading order: `args` (the command line), `cmd` (a file for each verb), `parse` (values of flags), `view` (objects as
//! JSON), `format` and `output` (how they are shown), `connection` and `failure`.

mod args;
mod clock;
mod cmd;
mod connection;
mod contexts;
mod converge;
mod failure;
mod format;
mod human;
mod input;
mod new_file;
mod output;
mod parse;
mod seal;
mod timestamp;
mod upload;
mod usage;
mod view;

use std::process::ExitCode;

use clap::Parser;

use failure::Failure;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, std::env::args_os()),
    };
    let as_json = cli.format.as_deref() == Some("json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))
        .and_then(|runtime| runtime.block_on(cmd::run(cli)));
    match result {
        Ok(exit) => ExitCode::from(exit),
        Err(failure) => {
            output::failure(&failure, as_json);
            ExitCode::from(failure.exit)
        }
    }
}
