//! `sctl cluster init`

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::{InitClusterRequest, InitClusterResponse, node};
use serde_json::{Value, json};

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
    context.format.check(&object(&InitClusterResponse::default()))?;
    let goes_on = args.force_new_cluster;
    let mut spec = args.settings.spec();
    spec.autolock = args.autolock;
    let request = InitClusterRequest {
        advertise: args.advertise_addr,
        listen: args.listen_addr,
        spec: Some(spec),
        availability: args.availability.into(),
        force_new_cluster: goes_on,
    };
    let mut local = context.host.local_within(START).await?;
    let cluster = local.init_cluster(request).await?.into_inner();
    output::bytes(context.format.object(&plain(&cluster, goes_on), &object(&cluster))?.as_bytes())?;
    Ok(0)
}

/// `goes_on`: the cluster was there before, and has lost its other managers.
fn plain(cluster: &InitClusterResponse, goes_on: bool) -> String {
    let mut plain = match goes_on {
        false => format!("Cluster initialized: current node ({}) is now a manager.", cluster.node_id),
        true => format!(
            "Cluster goes on alone: current node ({}) is now a manager, and the only one.\n\nThe managers that were lost have no vote any more: do not start them again before \"sctl cluster leave --force\" on each.",
            cluster.node_id
        ),
    };
    plain += &format!(
        "\n\nTo add a worker to this cluster, run the following command:\n\n    sctl cluster join --token {} {}\n\nTo add a manager to this cluster, run 'sctl cluster join-token manager' and follow the instructions.",
        cluster.worker_token, cluster.address
    );
    if !cluster.unlock_key.is_empty() {
        plain += &format!("\n\n{}", unlock_key::advice(&cluster.unlock_key));
    }
    plain
}

fn object(cluster: &InitClusterResponse) -> Value {
    json!({
        "ID": cluster.cluster_id,
        "NodeID": cluster.node_id,
        "Address": cluster.address,
        "WorkerToken": cluster.worker_token,
        "UnlockKey": cluster.unlock_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_that_goes_on_alone_says_so_and_what_must_not_be_started() {
        let cluster = InitClusterResponse { node_id: "n1".to_owned(), ..InitClusterResponse::default() };
        let (new, alone) = (plain(&cluster, false), plain(&cluster, true));
        assert!(
            new.starts_with("Cluster initialized: current node (n1) is now a manager.\n\nTo add a worker"),
            "{new}"
        );
        let head =
            "Cluster goes on alone: current node (n1) is now a manager, and the only one.\n\nThe managers that were";
        assert!(alone.starts_with(head), "{alone}");
        assert!(alone.contains("leave --force\" on each.\n\nTo add a worker"), "{alone}");
    }
}
