//! `sctl node promote` and `sctl node demote`

use clap::Args;
use secretd_proto::v1::{GetNodeRequest, UpdateClusterNodeRequest};
use serde_json::json;

use super::named;
use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::output;
use crate::parse::role::Role;

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Name or id of a node, or self
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Nodes, role: Role) -> Result<u8, Failure> {
    let mut outcomes = Outcomes::new(context);
    let nodes = if role.is_manager() { args.nodes } else { own_last(context, args.nodes).await };
    for name in nodes {
        if let Some((id, line)) = outcomes.take(change(context, &name, role).await) {
            output::bytes(context.format.object(&line, &json!({ "ID": id, "Role": role.word() }))?.as_bytes())?;
        }
    }
    Ok(outcomes.exit())
}

/// The node that is spoken to comes last: once it is no manager, it cannot ask for the others.
async fn own_last(context: &Context, names: Vec<String>) -> Vec<String> {
    if names.len() < 2 || !context.host.is_local() {
        return names;
    }
    let (Ok(own), Ok(mut control)) = (named(context, "self").await, context.control().await) else { return names };
    let (mut others, mut last) = (Vec::new(), Vec::new());
    for name in names {
        let is_own = name == "self" || {
            let found = control.get_node(GetNodeRequest { reference: name.clone() }).await;
            // One that is not found is told when its turn comes.
            found.ok().and_then(|found| found.into_inner().node).is_some_and(|node| node.id == own)
        };
        if is_own { last.push(name) } else { others.push(name) }
    }
    others.extend(last);
    others
}

async fn change(context: &Context, name: &str, role: Role) -> Result<(String, String), Failure> {
    let reference = named(context, name).await?;
    let mut control = context.control().await?;
    let known = control.get_node(GetNodeRequest { reference }).await?.into_inner().node.unwrap_or_default();
    let line = match (role.is_manager(), known.manager) {
        (true, true) => format!("Node {name} is already a manager."),
        (false, false) => format!("Node {name} is already a worker."),
        (true, false) => format!("Node {name} promoted to a manager in the cluster."),
        (false, true) => format!("Manager {name} demoted in the cluster."),
    };
    // A worker that was demoted a moment ago may have its vote still: the answer is waited for.
    if !(role.is_manager() && known.manager) {
        let request = UpdateClusterNodeRequest {
            reference: known.id.clone(),
            manager: Some(role.is_manager()),
            ..UpdateClusterNodeRequest::default()
        };
        control.update_node(request).await?;
    }
    Ok((known.id, line))
}
