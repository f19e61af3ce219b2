//! `sctl cluster update`

use clap::Args;
use secretd_proto::v1::{GetClusterRequest, UpdateClusterRequest, UpdateClusterResponse};
use serde_json::{Value, json};

use super::settings::Settings;
use super::unlock_key;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Whether managers wait for the unlock key when they start
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    autolock: Option<bool>,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) async fn run(context: &Context, args: &Update) -> Result<u8, Failure> {
    if args.autolock.is_none() && args.settings.is_empty() {
        return Err(Failure::usage("nothing to change is given: see \"sctl cluster update --help\""));
    }
    context.format.check(&object("", &UpdateClusterResponse::default()))?;
    let mut control = context.control().await?;
    let cluster = control.get_cluster(GetClusterRequest {}).await?.into_inner().cluster.unwrap_or_default();
    let mut request = UpdateClusterRequest {
        version: cluster.meta.map(|meta| meta.version).unwrap_or_default(),
        autolock: args.autolock,
        ..UpdateClusterRequest::default()
    };
    args.settings.change(&mut request);
    let updated = control.update_cluster(request).await?.into_inner();
    let mut plain = "Cluster updated.".to_owned();
    if args.settings.has_expiry() {
        plain += "\nNodes take the new expiry when they renew their certificates next.";
    }
    if !updated.unlock_key.is_empty() {
        plain += &format!("\n\n{}", unlock_key::advice(&updated.unlock_key));
    }
    output::bytes(context.format.object(&plain, &object(&cluster.id, &updated))?.as_bytes())?;
    Ok(0)
}

fn object(id: &str, updated: &UpdateClusterResponse) -> Value {
    json!({ "ID": id, "UnlockKey": updated.unlock_key })
}
