//! `sctl node`

mod inspect;
mod ls;
mod ps;

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
    /// List the tasks of nodes, those that have ended too
    Ps(ps::Ps),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
        Group::Ps(args) => ps::run(context, args).await,
    }
}
