//! `sctl volume rm`

use clap::Args;
use secretd_proto::v1::RemoveVolumeRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Name of a volume
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let mut volumes = context.host.volumes().await?;
    let mut outcomes = Outcomes::new(context);
    for name in args.names {
        let removed = volumes.remove(RemoveVolumeRequest { name: name.clone() }).await.map_err(Failure::from);
        if outcomes.take(removed).is_some() {
            output::bytes(context.format.object(&name, &json!({ "Name": name }))?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}
