//! `sctl image rm`

use clap::Args;
use secretd_proto::v1::RemoveImageRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Remove an image that has several names
    #[arg(short, long)]
    force: bool,
    /// Name or id of an image
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Rm) -> Result<u8, Failure> {
    let mut client = context.host.images().await?;
    let mut outcomes = Outcomes::new(context);
    for reference in args.images {
        let removed = client.remove(RemoveImageRequest { reference, force: args.force }).await.map_err(Failure::from);
        let Some(removed) = outcomes.take(removed) else { continue };
        let removed = removed.into_inner();
        let untagged = removed.untagged.iter().map(|name| format!("Untagged: {name}"));
        let plain: Vec<String> = untagged.chain(removed.deleted.iter().map(|id| format!("Deleted: {id}"))).collect();
        let value = json!({ "Untagged": removed.untagged, "Deleted": removed.deleted });
        output::bytes(context.format.object(&plain.join("\n"), &value)?.as_bytes())?;
    }
    Ok(outcomes.exit())
}
