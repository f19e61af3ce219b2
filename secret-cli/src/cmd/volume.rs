//! `sctl volume`

mod create;
mod inspect;
mod ls;
mod rm;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make a volume
    Create(create::Create),
    /// Show volumes in full, with the tasks that use them
    Inspect(inspect::Inspect),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Remove volumes and what is in them
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Create(args) => create::run(context, args).await,
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
        Group::Rm(args) => rm::run(context, args).await,
    }
}
