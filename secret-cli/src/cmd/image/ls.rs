//! `sctl image ls`

use clap::Args;
use secretd_proto::v1::ListImagesRequest;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::view::image;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    let mut client = context.host.images().await?;
    let images = client.list(ListImagesRequest {}).await?.into_inner().images;
    if args.quiet {
        output::bytes(images.iter().map(|image| format!("{}\n", image.id)).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = images.iter().flat_map(|of| image::rows(of, args.no_trunc)).collect();
    output::bytes(context.format.list(&image::COLUMNS, &image::MORE, &rows)?.as_bytes())?;
    Ok(0)
}
