//! Nodes: where tasks run, and how secrets are protected there.

use std::sync::Arc;

use secretd_core::node::Node;
use secretd_proto::v1;
use secretd_store::View;

use super::Context;
use crate::filter::Filters;
use crate::manager::local_node;
use crate::reference::{Kind, resolve};
use crate::refusal::Refusal;

pub(super) fn get_node(context: &Context, request: &v1::GetNodeRequest) -> Result<v1::GetNodeResponse, Refusal> {
    let view = context.view()?;
    Ok(v1::GetNodeResponse { node: Some(to_wire(find(&view, &request.reference)?)) })
}

/// The node that a reference means; `self` is this one.
pub(super) fn find<'a>(view: &'a View, reference: &str) -> Result<&'a Arc<Node>, Refusal> {
    if reference == "self" {
        return local_node(view).ok_or_else(Refusal::not_initialized);
    }
    let candidates = view.nodes().map(|node| (node.id, node.description.hostname.as_str(), node));
    resolve(Kind::Node, reference, candidates)
}

pub(super) fn list_nodes(context: &Context, request: v1::ListNodesRequest) -> Result<v1::ListNodesResponse, Refusal> {
    let view = context.view()?;
    let filters = Filters::parse(request.filters, &["id", "label", "membership", "name", "node.label", "role"])?;
    let chosen = view.nodes().filter(|node| {
        filters.prefix("id", &node.id.to_string())
            && filters.prefix("name", &node.description.hostname)
            && filters.labels("label", &node.description.engine_labels)
            && filters.labels("node.label", &node.labels)
            && filters.exact("membership", "accepted")
            && filters.exact("role", if node.manager { "manager" } else { "worker" })
    });
    let mut nodes: Vec<&Arc<Node>> = chosen.collect();
    nodes.sort_by(|a, b| (&a.description.hostname, a.id).cmp(&(&b.description.hostname, b.id)));
    let self_id = local_node(&view).map(|node| node.id.to_string()).unwrap_or_default();
    Ok(v1::ListNodesResponse { nodes: nodes.into_iter().map(to_wire).collect(), self_id })
}

fn to_wire(node: &Arc<Node>) -> v1::Node {
    // The store has one voter, which leads.
    v1::Node { leader: node.manager, ..Node::clone(node).into() }
}
