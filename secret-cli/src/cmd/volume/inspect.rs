//! `sctl volume inspect`

use clap::Args;
use secretd_proto::code::Code;
use secretd_proto::v1::ListVolumesRequest;

use crate::cmd::Context;
use crate::cmd::inspection::Inspection;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::view::volume;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    inspection: Inspection,
    /// Name of a volume
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Inspect) -> Result<u8, Failure> {
    let format = args.inspection.format.of(context)?;
    let mut client = context.host.volumes().await?;
    let volumes = client.list(ListVolumesRequest {}).await?.into_inner().volumes;
    let mut outcomes = Outcomes::new(context);
    let mut objects = Vec::new();
    for name in &args.names {
        let found = volumes.iter().find(|volume| volume.name == *name);
        let found = found.ok_or_else(|| Failure::new(Code::NotFound, format!("no such volume: {name}")));
        objects.extend(outcomes.take(found).map(volume::object));
    }
    args.inspection.show(&format, &objects, &outcomes)
}
