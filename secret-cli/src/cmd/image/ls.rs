//! `sctl image ls`

use clap::Args;
use secretd_proto::v1::{Image, ListImagesRequest};

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
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Ls {
    /// Leaves each image the tags that were asked for.
    fn choose(&self, images: Vec<Image>) -> Vec<Image> {
        let Some(name) = &self.name else { return images };
        let is_asked_for = |tag: &String| tag == name || tag.rsplit_once(':').is_some_and(|(of, _)| of == name);
        let chosen = images.into_iter().map(|mut image| {
            image.tags.retain(is_asked_for);
            image
        });
        chosen.filter(|image| !image.tags.is_empty()).collect()
    }
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    let mut client = context.host.images().await?;
    let images = client.list(ListImagesRequest {}).await?.into_inner().images;
    let images = args.choose(images);
    if args.quiet {
        let id = |of: &Image| if args.no_trunc { of.id.clone() } else { image::short(&of.id) };
        output::bytes(images.iter().map(|of| format!("{}\n", id(of))).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let rows: Vec<_> = images.iter().flat_map(|of| image::rows(of, args.no_trunc)).collect();
    output::bytes(context.format.list(&image::COLUMNS, &image::MORE, &rows)?.as_bytes())?;
    Ok(0)
}
