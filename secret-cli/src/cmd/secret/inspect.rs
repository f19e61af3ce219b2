//! `sctl secret inspect`

use clap::Args;
use secretd_proto::v1::GetSecretRequest;

use crate::cmd::Context;
use crate::cmd::inspection::Inspection;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::view::secret;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    inspection: Inspection,
    /// Name or id of a secret
    #[arg(value_name = "SECRET", required = true)]
    secrets: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Inspect) -> Result<u8, Failure> {
    let format = args.inspection.format.of(context)?;
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut objects = Vec::new();
    for reference in args.secrets {
        let found = control.get_secret(GetSecretRequest { reference }).await.map_err(Failure::from);
        if let Some(found) = outcomes.take(found) {
            let found = found.into_inner();
            objects.extend(found.secret.map(|of| secret::object(&of, &found.used_by)));
        }
    }
    args.inspection.show(&format, &objects, &outcomes)
}
