//! `sctl cluster`

mod init;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make this node the first of a new cluster
    Init(init::Init),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Init(args) => init::run(context, &args).await,
    }
}
