//! `sctl image import`

use std::path::PathBuf;

use clap::Args;
use secretd_proto::v1::import_request::Part;
use secretd_proto::v1::{ImportRequest, ImportStart};

use crate::cmd::Context;
use crate::failure::Failure;
use crate::view::image;
use crate::{output, upload};

#[derive(Debug, Args)]
pub(crate) struct Import {
    #[arg(long, value_name = "NAME", help = "Name of the image, as REPOSITORY[:TAG]")]
    tag: String,
    /// Instruction of a Dockerfile for the image: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Comment in the image's history
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
    /// Archive of the root filesystem: tar, plain or compressed with gzip or zstd; - for standard input
    #[arg(value_name = "FILE|-")]
    source: PathBuf,
}

pub(crate) async fn run(context: &Context, args: Import) -> Result<u8, Failure> {
    let upload = upload::open(&args.source, "an archive")?;
    let mut images = context.host.images().await?;
    let start = ImportStart { tag: args.tag, changes: args.changes, message: args.message };
    let first = ImportRequest { part: Some(Part::Start(start)) };
    let wrap = |data| ImportRequest { part: Some(Part::Data(data)) };
    let call = |body| async move { images.import(body).await.map_err(Failure::from) };
    let image = upload.send(Some(first), wrap, call).await?.into_inner().image.unwrap_or_default();
    output::bytes(context.format.object(&image.id, &image::object(&image))?.as_bytes())?;
    Ok(0)
}
