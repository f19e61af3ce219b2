//! `sctl node`

mod inspect;
mod ls;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Show nodes in full, with how each protects secrets
    Inspect(inspect::Inspect),
    /// List nodes
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
    }
}
