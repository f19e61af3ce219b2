//! `sctl service inspect`

use clap::Args;
use secretd_proto::v1::GetServiceRequest;

use crate::cmd::Context;
use crate::cmd::inspection::Inspection;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::view::service;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    inspection: Inspection,
    /// Name or id of a service
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Inspect) -> Result<u8, Failure> {
    let format = args.inspection.format.of(context)?;
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut objects = Vec::new();
    for reference in args.services {
        let found = control.get_service(GetServiceRequest { reference }).await.map_err(Failure::from);
        objects
            .extend(outcomes.take(found).and_then(|found| found.into_inner().service).map(|of| service::object(&of)));
    }
    args.inspection.show(&format, &objects, &outcomes)
}
