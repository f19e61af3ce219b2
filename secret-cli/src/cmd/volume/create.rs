//! `sctl volume create`

use clap::Args;
use secretd_proto::v1::CreateVolumeRequest;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::key_value;
use crate::view::volume;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Label of a new volume
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value::label)]
    labels: Vec<(String, String)>,
    /// Name of the volume; a random one where it is left out
    #[arg(value_name = "VOLUME", default_value = "", hide_default_value = true)]
    name: String,
}

pub(crate) async fn run(context: &Context, args: Create) -> Result<u8, Failure> {
    let mut volumes = context.host.volumes().await?;
    let request = CreateVolumeRequest { name: args.name, labels: args.labels.into_iter().collect() };
    let made = volumes.create(request).await?.into_inner().volume.unwrap_or_default();
    output::bytes(context.format.object(&made.name, &volume::object(&made))?.as_bytes())?;
    Ok(0)
}
