//! `sctl image inspect`

use clap::Args;
use secretd_proto::v1::GetImageRequest;

use crate::cmd::Context;
use crate::cmd::inspection::Inspection;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::view::image;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    inspection: Inspection,
    /// Name or id of an image
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Inspect) -> Result<u8, Failure> {
    let format = args.inspection.format.of(context)?;
    let mut images = context.host.images().await?;
    let mut outcomes = Outcomes::new(context);
    let mut objects = Vec::new();
    for reference in args.images {
        let found = images.get(GetImageRequest { reference }).await.map_err(Failure::from);
        objects.extend(outcomes.take(found).and_then(|found| found.into_inner().image).map(|of| image::object(&of)));
    }
    args.inspection.show(&format, &objects, &outcomes)
}
