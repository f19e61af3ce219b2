//! `sctl context`

mod create;
mod inspect;
mod ls;
mod rm;
mod switch;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Give the way to a cluster a name
    Create(create::Create),
    /// Show contexts in full
    Inspect(inspect::Inspect),
    /// List contexts
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Remove contexts
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    /// Use a context from now on; default is this node
    Use(switch::Use),
}

pub(crate) fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Create(args) => create::run(context, args),
        Group::Inspect(args) => inspect::run(context, &args),
        Group::Ls(args) => ls::run(context, &args),
        Group::Rm(args) => rm::run(context, args),
        Group::Use(args) => switch::run(context, &args),
    }
}
