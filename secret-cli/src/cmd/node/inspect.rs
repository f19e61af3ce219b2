//! `sctl node inspect`

use clap::Args;
use secretd_proto::v1::GetNodeRequest;

use super::named;
use crate::cmd::Context;
use crate::cmd::inspection::Inspection;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::view::node;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    inspection: Inspection,
    /// Name or id of a node, or self
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Inspect) -> Result<u8, Failure> {
    let format = args.inspection.format.of(context)?;
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut objects = Vec::new();
    for reference in args.nodes {
        let found = match named(context, &reference).await {
            Ok(reference) => control.get_node(GetNodeRequest { reference }).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        objects.extend(outcomes.take(found).and_then(|found| found.into_inner().node).map(|of| node::object(&of)));
    }
    args.inspection.show(&format, &objects, &outcomes)
}
