//! `sctl secret rm`

use clap::Args;
use secretd_proto::v1::RemoveSecretRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Name or id of a secret
    #[arg(value_name = "SECRET", required = true)]
    secrets: Vec<String>,
    /// Revoke it: services that use it lose it too, running containers at once, also in files that are open
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    for reference in args.secrets {
        let removed =
            control.remove_secret(RemoveSecretRequest { reference: reference.clone(), force: args.force }).await;
        if let Some(removed) = outcomes.take(removed.map_err(Failure::from)) {
            let value = json!({ "ID": removed.into_inner().id, "Name": reference });
            output::bytes(context.format.object(&reference, &value)?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}
