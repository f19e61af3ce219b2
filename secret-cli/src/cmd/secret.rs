//! `sctl secret`

mod create;
mod inspect;
mod ls;
mod rm;
mod update;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Create a secret from a file or from standard input
    Create(create::Create),
    /// Show secrets in full, without their values
    Inspect(inspect::Inspect),
    /// List secrets
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Remove secrets
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    /// Give a secret a new value, live in the containers that read it, or other labels
    Update(update::Update),
}

impl Group {
    /// Whether it shows what the cluster's state has, and nothing else.
    pub(super) fn reads(&self) -> bool {
        matches!(self, Self::Inspect(_) | Self::Ls(_))
    }
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Create(args) => create::run(context, args).await,
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
        Group::Rm(args) => rm::run(context, args).await,
        Group::Update(args) => update::run(context, args).await,
    }
}
