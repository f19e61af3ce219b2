//! `sctl image`

mod import;
mod inspect;
mod load;
mod ls;
mod progress;
mod pull;
mod rm;
mod tag;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make an image of one layer from the archive of a root filesystem
    Import(import::Import),
    /// Show images in full
    Inspect(inspect::Inspect),
    /// Load images from an OCI layout or a docker-save archive
    Load(load::Load),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Get an image from a registry
    Pull(pull::Pull),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    /// Give an image another name
    Tag(tag::Tag),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Import(args) => import::run(context, args).await,
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Load(args) => load::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
        Group::Pull(args) => pull::run(context, args).await,
        Group::Rm(args) => rm::run(context, args).await,
        Group::Tag(args) => tag::run(context, args).await,
    }
}
