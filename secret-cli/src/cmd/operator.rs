//! `sctl operator`

mod create;
mod ls;
mod rm;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make a certificate for somebody who uses sctl from afar
    Create(create::Create),
    /// List the certificates that were made
    Ls(ls::Ls),
    /// Take certificates back: they are refused from now on
    Rm(rm::Rm),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Create(args) => create::run(context, args).await,
        Group::Ls(args) => ls::run(context, &args).await,
        Group::Rm(args) => rm::run(context, args).await,
    }
}
