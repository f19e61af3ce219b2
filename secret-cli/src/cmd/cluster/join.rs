//! `sctl cluster join`

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::{JoinClusterRequest, node};
use serde_json::json;

use super::absent::AbsentNetwork;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::parse::availability;
use crate::parse::role::Role;
use crate::{input, output};

/// How long a daemon may take to start: this command often comes right after it.
const START: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// What 'sctl cluster join-token' shows on a manager, or - to read it from standard input: other users of this
    /// node see command lines
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// Where other nodes reach this one: ip|interface, with :port if wanted; unless given, the address from which it reaches the manager
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    advertise_addr: String,
    /// Whether this node takes tasks: active, pause or drain
    #[arg(long, value_name = "AVAILABILITY", default_value = "active", value_parser = availability::parse)]
    availability: node::Availability,
    /// Where this node listens when it is a manager: ip|interface, with :port if wanted; every address and port 7377 unless given
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    listen_addr: String,
    #[command(flatten)]
    absent: AbsentNetwork,
    /// Address of a manager, with or without its port; of several, the first that answers is asked
    #[arg(value_name = "HOST:PORT", required = true)]
    managers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Join) -> Result<u8, Failure> {
    let token = match args.token.as_str() {
        "-" => input::line("the join token")?.to_string(),
        token => token.to_owned(),
    };
    let request = JoinClusterRequest {
        token,
        managers: args.managers,
        advertise: args.advertise_addr,
        listen: args.listen_addr,
        availability: args.availability.into(),
    };
    let mut local = context.host.local_within(START).await?;
    let joined = local.join_cluster(request).await?.into_inner();
    let role = if joined.manager { Role::Manager } else { Role::Worker }.word();
    if joined.pending {
        return Err(Failure::unreachable(
            "timeout was reached before the node joined: it goes on in the background: see \"sctl info\" for how far it is",
        ));
    }
    let value = json!({ "ID": joined.cluster_id, "NodeID": joined.node_id, "Role": role });
    output::bytes(context.format.object(&format!("This node joined a cluster as a {role}."), &value)?.as_bytes())?;
    Ok(0)
}
