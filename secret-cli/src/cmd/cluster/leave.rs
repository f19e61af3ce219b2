//! `sctl cluster leave`

use clap::Args;
use secretd_proto::v1::LeaveClusterRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// Also when this node is a manager, and the cluster may be lost with it
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: &Leave) -> Result<u8, Failure> {
    let mut local = context.host.local().await?;
    let left = local.leave_cluster(LeaveClusterRequest { force: args.force }).await?.into_inner();
    if !left.warning.is_empty() {
        output::note(&format!("WARNING: {}", left.warning));
    }
    output::bytes(context.format.object("Node left the cluster.", &json!({ "Left": true }))?.as_bytes())?;
    Ok(0)
}
