//! `sctl operator`

mod create;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make a certificate for somebody who uses sctl from afar
    Create(create::Create),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Create(args) => create::run(context, args).await,
    }
}
