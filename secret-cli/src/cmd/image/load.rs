//! `sctl image load`

use std::path::PathBuf;

use clap::Args;
use secretd_proto::v1::LoadRequest;

use super::progress::{Detail, follow};
use crate::cmd::Context;
use crate::failure::Failure;
use crate::view::image;
use crate::{output, upload};

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Archive to read, instead of standard input
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    input: PathBuf,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: Load) -> Result<u8, Failure> {
    let upload = upload::open(&args.input, "an archive")?;
    let mut images = context.host.images().await?;
    let detail = Detail::new(args.quiet);
    let call = |body| async move {
        let stream = images.load(body).await?.into_inner();
        follow(stream, detail).await
    };
    let loaded = upload.send(None, |data| LoadRequest { data }, call).await?;
    for image in &loaded {
        let names = image.tags.iter().map(|tag| format!("Loaded image: {tag}"));
        let plain = match image.tags.as_slice() {
            [] => format!("Loaded image ID: {}", image.id),
            _ => names.collect::<Vec<_>>().join("\n"),
        };
        output::bytes(context.format.object(&plain, &image::object(image))?.as_bytes())?;
    }
    Ok(0)
}
