//! `sctl cluster init`

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::{InitClusterRequest, node};
use serde_json::json;

use super::absent::AbsentNetwork;
use super::settings::Settings;
use super::unlock_key;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::availability;

/// How long a daemon may take to start: this command often comes right after it.
const START: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where other nodes reach this one: ip|interface, with :port if wanted; needed where the node has more than one address
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    advertise_addr: String,
    /// Have managers wait for an unlock key when they start; it is printed
    #[arg(long)]
    autolock: bool,
    /// Whether this node takes tasks: active, pause or drain
    #[arg(long, value_name = "AVAILABILITY", default_value = "active", value_parser = availability::parse)]
    availability: node::Availability,
    /// When the majority of the managers is lost: go on with this one alone, and with all that it knows. The others must
    /// not be started again before 'sctl cluster leave --force' on each
    #[arg(long, conflicts_with_all = ["advertise_addr", "listen_addr", "autolock", "availability", "cert_expiry", "dispatcher_heartbeat", "task_history_limit"])]
    force_new_cluster: bool,
    /// Where this node listens: ip|interface, with :port if wanted; every address and port 7377 unless given
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    listen_addr: String,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    absent: AbsentNetwork,
}

pub(crate) async fn run(context: &Context, args: Init) -> Result<u8, Failure> {
    let mut spec = args.settings.spec();
    spec.autolock = args.autolock;
    let request = InitClusterRequest {
        advertise: args.advertise_addr,
        listen: args.listen_addr,
        spec: Some(spec),
        availability: args.availability.into(),
        force_new_cluster: args.force_new_cluster,
    };
    let mut local = context.host.local_within(START).await?;
    let cluster = local.init_cluster(request).await?.into_inner();
    let mut plain = format!("Cluster initialized: current node ({}) is now a manager.", cluster.node_id);
    plain += &format!(
        "\n\nTo add a worker to this cluster, run the following command:\n\n    sctl cluster join --token {} {}\n\nTo add a manager to this cluster, run 'sctl cluster join-token manager' and follow the instructions.",
        cluster.worker_token, cluster.address
    );
    if !cluster.unlock_key.is_empty() {
        plain += &format!("\n\n{}", unlock_key::advice(&cluster.unlock_key));
    }
    let value = json!({
        "ID": cluster.cluster_id,
        "NodeID": cluster.node_id,
        "Address": cluster.address,
        "WorkerToken": cluster.worker_token,
        "UnlockKey": cluster.unlock_key,
    });
    output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
    Ok(0)
}
