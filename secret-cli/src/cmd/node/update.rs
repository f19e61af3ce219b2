//! `sctl node update`

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use secretd_proto::v1::{GetNodeRequest, Node, UpdateClusterNodeRequest, node};
use serde_json::json;

use super::named;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::output;
use crate::parse::role::{self, Role};
use crate::parse::{availability, key_value};

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Whether the node takes tasks: active, pause or drain
    #[arg(long, value_name = "AVAILABILITY", value_parser = availability::parse)]
    availability: Option<node::Availability>,
    /// Add or change a label
    #[arg(long = "label-add", value_name = "KEY[=VALUE]", value_parser = key_value::label)]
    label_add: Vec<(String, String)>,
    /// Remove a label
    #[arg(long = "label-rm", value_name = "KEY")]
    label_rm: Vec<String>,
    /// What the node is to be: worker or manager
    #[arg(long, value_name = "worker|manager", value_parser = role::parse)]
    role: Option<Role>,
    /// Name or id of a node, or self
    #[arg(value_name = "NODE")]
    node: String,
}

pub(crate) async fn run(context: &Context, args: Update) -> Result<u8, Failure> {
    let labels_change = !args.label_add.is_empty() || !args.label_rm.is_empty();
    if args.availability.is_none() && args.role.is_none() && !labels_change {
        return Err(Failure::usage("nothing to change is given: see \"sctl node update --help\""));
    }
    let reference = named(context, &args.node).await?;
    let mut control = context.control().await?;
    let known = control.get_node(GetNodeRequest { reference }).await?.into_inner().node.unwrap_or_default();
    let request = UpdateClusterNodeRequest {
        reference: known.id.clone(),
        spec_version: known.spec_version,
        availability: args.availability.map(Into::into),
        replace_labels: labels_change,
        labels: labels(&known, &args.label_add, &args.label_rm)?,
        manager: args.role.map(Role::is_manager),
    };
    control.update_node(request).await?;
    output::bytes(context.format.object(&args.node, &json!({ "ID": known.id }))?.as_bytes())?;
    Ok(0)
}

/// The node's labels as they are to be.
fn labels(known: &Node, add: &[(String, String)], remove: &[String]) -> Result<HashMap<String, String>, Failure> {
    let mut labels: BTreeMap<String, String> = known.labels.clone().into_iter().collect();
    for key in remove {
        if labels.remove(key).is_none() {
            return Err(Failure::invalid(format!("key {key} doesn't exist in node's labels")));
        }
    }
    labels.extend(add.iter().cloned());
    Ok(labels.into_iter().collect())
}
