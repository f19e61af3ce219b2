//! `sctl cluster restore`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use secretd_proto::v1::restore_input::Input;
use secretd_proto::v1::{RestoreBegin, RestoreClusterResponse, RestoreInput, node};
use serde_json::{Value, json};

use crate::cmd::Context;
use crate::failure::Failure;
use crate::parse::availability;
use crate::{human, input, output, timestamp, upload};

/// How long a daemon may take to start: this command often comes right after it.
const START: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Where other nodes reach this one: ip|interface, with :port if wanted; needed where the node has more than one address
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    advertise_addr: String,
    /// Whether this node takes tasks: active, pause or drain
    #[arg(long, value_name = "AVAILABILITY", default_value = "active", value_parser = availability::parse)]
    availability: node::Availability,
    /// Where this node listens: ip|interface, with :port if wanted; every address and port 7377 unless given
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    listen_addr: String,
    /// A backup that 'sctl cluster backup' has written; its key or passphrase is read from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(context: &Context, args: Restore) -> Result<u8, Failure> {
    if args.file == Path::new("-") {
        return Err(Failure::invalid(
            "the backup cannot be read from standard input, from which its key comes: give a file",
        ));
    }
    context.format.check(&object(&RestoreClusterResponse::default()))?;
    let upload = upload::open(&args.file, "a backup")?;
    let mut local = context.host.local_within(START).await?;
    let key = input::hidden_line("Please enter the backup's key or passphrase: ", "the backup's key or passphrase")?;
    let begin = RestoreBegin {
        key: key.as_bytes().to_vec(),
        advertise: args.advertise_addr,
        listen: args.listen_addr,
        availability: args.availability.into(),
    };
    let first = RestoreInput { input: Some(Input::Begin(begin)) };
    let wrap = |data| RestoreInput { input: Some(Input::Data(data)) };
    let call = |body| async move { Ok(local.restore_cluster(body).await?.into_inner()) };
    let cluster = upload.send(Some(first), wrap, call).await?;
    let taken_at = timestamp::rfc3339(cluster.taken_at.as_ref());
    let plain = format!(
        "Cluster {} restored as it was at {taken_at}: {}, {}. Current node ({}) is now its only manager.\n\nThe nodes that it had are listed by 'sctl node ls'. Workers come back by themselves when a manager has the address of one\nthat they know; on its old managers, run 'sctl cluster leave --force' and have them join again.",
        cluster.cluster_id,
        human::count(cluster.secrets, "secret"),
        human::count(cluster.services, "service"),
        cluster.node_id
    );
    output::bytes(context.format.object(&plain, &object(&cluster))?.as_bytes())?;
    Ok(0)
}

fn object(cluster: &RestoreClusterResponse) -> Value {
    json!({
        "ID": cluster.cluster_id,
        "NodeID": cluster.node_id,
        "Address": cluster.address,
        "TakenAt": timestamp::rfc3339(cluster.taken_at.as_ref()),
        "Secrets": cluster.secrets,
        "Services": cluster.services,
    })
}
