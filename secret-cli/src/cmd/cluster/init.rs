//! `sctl cluster init`

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::InitClusterRequest;
use serde_json::json;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;

/// How long a daemon may take to start: this command often comes right after it.
const START: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Init {}

pub(crate) async fn run(context: &Context, Init {}: &Init) -> Result<u8, Failure> {
    let mut control = context.host.control_within(START).await?;
    let cluster = control.init_cluster(InitClusterRequest {}).await?.into_inner();
    let plain = format!("Cluster initialized: node {} is now a manager.", cluster.node_id);
    let value = json!({ "ID": cluster.cluster_id, "NodeID": cluster.node_id });
    output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
    Ok(0)
}
