//! `sctl man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::args::Cli;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory to write the pages to
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

pub(crate) fn run(args: &Man) -> Result<u8, Failure> {
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .map_err(|error| Failure::failed(format!("cannot write to {}: {error}", args.directory.display())))?;
    Ok(0)
}
