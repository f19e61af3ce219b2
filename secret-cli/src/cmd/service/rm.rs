//! `sctl service rm`

use clap::Args;
use secretd_proto::v1::RemoveServiceRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Name or id of a service
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    for reference in args.services {
        let removed = control.remove_service(RemoveServiceRequest { reference: reference.clone() }).await;
        if let Some(removed) = outcomes.take(removed.map_err(Failure::from)) {
            let value = json!({ "ID": removed.into_inner().id, "Name": reference });
            output::bytes(context.format.object(&reference, &value)?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}
