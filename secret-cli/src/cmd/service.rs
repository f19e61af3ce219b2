//! `sctl service`

mod create;
mod grants;
mod inspect;
mod logs;
mod ls;
mod options;
mod ps;
mod rm;
mod rollback;
mod scale;
mod update;
mod wait;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Create a service
    Create(Box<create::Create>),
    /// Show services in full
    Inspect(inspect::Inspect),
    /// Show what the tasks of a service have printed
    Logs(logs::Logs),
    /// List services
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// List the tasks of services
    Ps(ps::Ps),
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    /// Go back to what a service was before its last update
    Rollback(rollback::Rollback),
    /// Change the number of tasks of services
    Scale(scale::Scale),
    /// Change a service
    Update(Box<update::Update>),
}

impl Group {
    /// Whether it shows what the cluster's state has, and nothing else.
    pub(super) fn reads(&self) -> bool {
        matches!(self, Self::Inspect(_) | Self::Ls(_) | Self::Ps(_))
    }
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Create(args) => create::run(context, *args).await,
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Logs(args) => logs::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
        Group::Ps(args) => ps::run(context, args).await,
        Group::Rm(args) => rm::run(context, args).await,
        Group::Rollback(args) => rollback::run(context, args).await,
        Group::Scale(args) => scale::run(context, args).await,
        Group::Update(args) => update::run(context, *args).await,
    }
}
