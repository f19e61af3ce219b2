//! `sctl image tag`

use clap::Args;
use secretd_proto::v1::TagImageRequest;

use crate::cmd::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    source: String,
    #[arg(value_name = "NAME", help = "Its new name, as REPOSITORY[:TAG]")]
    target: String,
}

pub(crate) async fn run(context: &Context, args: Tag) -> Result<u8, Failure> {
    let mut images = context.host.images().await?;
    images.tag(TagImageRequest { reference: args.source, tag: args.target }).await?;
    Ok(0)
}
