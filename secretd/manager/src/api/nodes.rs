//! Nodes: where tasks run, how secrets are protected there, and which of them are managers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::time::Version;
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_store::{MemberStatus, Op, View, keeps_quorum};

use super::Context;
use crate::audit::record;
use crate::caller::Caller;
use crate::dispatch::session::{Connection, Sessions};
use crate::filter::Filters;
use crate::natural;
use crate::reference::{Kind, resolve};
use crate::refusal::Refusal;
use crate::rotation::digest;

/// How long a demotion is waited for.
const DEMOTION: Duration = Duration::from_secs(10);

pub(super) fn get_node(context: &Context, request: &v1::GetNodeRequest) -> Result<v1::GetNodeResponse, Refusal> {
    let view = context.view()?;
    let node = find(&view, &request.reference)?;
    Ok(v1::GetNodeResponse { node: Some(Shown::of(context).node(node)) })
}

/// The node that a reference means.
pub(super) fn find<'a>(view: &'a View, reference: &str) -> Result<&'a Arc<Node>, Refusal> {
    let candidates = view.nodes().map(|node| (node.id, node.description.hostname.as_str(), node));
    resolve(Kind::Node, reference, candidates)
}

pub(super) fn list_nodes(context: &Context, request: v1::ListNodesRequest) -> Result<v1::ListNodesResponse, Refusal> {
    let view = context.view()?;
    let filters = Filters::parse(request.filters, &["id", "label", "membership", "name", "node.label", "role"])?;
    filters.check("role", &["manager", "worker"])?;
    filters.check("membership", &["accepted", "pending"])?; // nobody is ever pending
    let chosen = view.nodes().filter(|node| {
        filters.prefix("id", &node.id.to_string())
            && filters.prefix("name", &node.description.hostname)
            && filters.labels("label", &node.description.engine_labels)
            && filters.labels("node.label", &node.labels)
            && filters.exact("membership", "accepted")
            && filters.exact("role", if node.manager { "manager" } else { "worker" })
    });
    let mut nodes: Vec<&Arc<Node>> = chosen.collect();
    nodes.sort_by(|a, b| {
        let by_name = natural::compare(&a.description.hostname, &b.description.hostname);
        by_name.then_with(|| a.id.cmp(&b.id))
    });
    Ok(v1::ListNodesResponse { nodes: Shown::of(context).all(nodes) })
}

pub(super) async fn update_node(
    context: &Context,
    caller: Option<Caller>,
    request: v1::UpdateClusterNodeRequest,
) -> Result<v1::UpdateClusterNodeResponse, Refusal> {
    let view = context.view()?;
    let node = Arc::clone(find(&view, &request.reference)?);
    let id = node.id;
    let outcome = async {
        let mut ops = Vec::new();
        if request.availability.is_some() || request.replace_labels {
            let availability = match request.availability {
                Some(availability) => v1::node::Availability::try_from(availability)
                    .map(Availability::from)
                    .map_err(|_| Refusal::invalid("the availability is not known"))?,
                None => node.availability,
            };
            let labels: BTreeMap<String, String> = match request.replace_labels {
                true => check_labels(request.labels.into_iter().collect())?,
                false => node.labels.clone(),
            };
            // The call may have been made before, at a manager that led then.
            if availability != node.availability || labels != node.labels {
                ops.push(Op::SetNodeSpec { id, expect: Version(request.spec_version), labels, availability });
            }
        }
        if let Some(manager) = request.manager.filter(|manager| *manager != node.manager) {
            if !manager {
                check_demotion(&view, &node, &members(context))?;
            }
            ops.push(Op::SetNodeRole { id, manager });
        }
        context.store.propose(ops).await.map_err(Refusal::from)
    };
    record(caller, "node.update", id, outcome.await)?;
    if request.manager == Some(false) {
        without_vote(context, id).await?;
    }
    let node = context.store.view().node(&id).map(|node| Shown::of(context).node(node));
    Ok(v1::UpdateClusterNodeResponse { node })
}

/// Refuses labels that would look like something else when they are shown.
fn check_labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    let is_shown = |text: &String| !text.contains(char::is_control);
    match labels.iter().all(|(key, value)| !key.is_empty() && is_shown(key) && is_shown(value)) {
        true => Ok(labels),
        false => Err(Refusal::invalid("a label has a key, and no control characters in key or value (--label-add)")),
    }
}

/// Waits until a demoted manager has no vote any more, so that it may be stopped: for a while, because the change goes on
/// by itself.
///
/// # Errors
/// When this manager leads no more: the next one, which takes the vote, is to be asked again. When too few agree in time.
async fn without_vote(context: &Context, id: NodeId) -> Result<(), Refusal> {
    let Some(replica) = context.store.replica() else { return Ok(()) };
    let mut leadership = replica.watch_leadership();
    let gone = async {
        while let Some(now) = leadership.next().await {
            if !now.leads {
                return Err(Refusal::not_leader(now.leader.as_ref()));
            }
            if !now.members.contains(&id) {
                break;
            }
        }
        Ok(())
    };
    let late = || {
        let message = format!(
            "the node is to be no manager any more, and its vote counts still, because too few of the others have agreed in {DEMOTION:?}: repeat the command"
        );
        Refusal::new(Code::NoQuorum, message)
    };
    tokio::time::timeout(DEMOTION, gone).await.unwrap_or_else(|_| Err(late()))
}

/// A manager may go when a majority of the rest answers.
fn check_demotion(view: &View, node: &Node, members: &[MemberStatus]) -> Result<(), Refusal> {
    if view.nodes().filter(|node| node.manager).count() == 1 {
        return Err(Refusal::new(Code::InUse, "attempting to demote the last manager of the cluster"));
    }
    let is_member = members.iter().any(|status| status.voter && status.member.node == node.id);
    if is_member && !keeps_quorum(members, node.id) {
        let message = "can't remove this manager: too few of the others answer, and the cluster would lose its quorum";
        return Err(Refusal::new(Code::NoQuorum, message));
    }
    Ok(())
}

pub(super) async fn remove_node(
    context: &Context,
    caller: Option<Caller>,
    request: v1::RemoveNodeRequest,
) -> Result<v1::RemoveNodeResponse, Refusal> {
    let view = context.view()?;
    let node = Arc::clone(find(&view, &request.reference)?);
    let outcome = async {
        check_removal(&node, &members(context), request.force)?;
        context.store.propose(vec![Op::RemoveNode { id: node.id }]).await.map_err(Refusal::from)
    };
    record(caller, "node.remove", node.id, outcome.await)?;
    Ok(v1::RemoveNodeResponse { id: node.id.to_string() })
}

fn check_removal(node: &Node, members: &[MemberStatus], force: bool) -> Result<(), Refusal> {
    let name = &node.description.hostname;
    if node.manager || members.iter().any(|status| status.member.node == node.id) {
        let message =
            format!("node {name} is a manager: demote it with \"sctl node demote {name}\" before it is removed");
        return Err(Refusal::new(Code::InUse, message));
    }
    if node.state == NodeState::Ready && !force {
        let message = format!("node {name} is not down and can't be removed: stop it, or give --force");
        return Err(Refusal::new(Code::InUse, message));
    }
    Ok(())
}

fn members(context: &Context) -> Vec<MemberStatus> {
    context.store.replica().map(|replica| replica.members()).unwrap_or_default()
}

/// Whether a node's certificate is of the root that makes certificates at present.
pub(super) fn tls_status(view: &View, node: &Node) -> v1::node::TlsStatus {
    let first = view.cluster().and_then(|cluster| cluster.roots.first()).map(|root| digest(root));
    match (node.certificate, first) {
        (Some(certificate), Some(first)) if certificate.issuer == *first.as_bytes() => v1::node::TlsStatus::Ready,
        (Some(_), Some(_)) => v1::node::TlsStatus::NeedsRotation,
        (None, _) | (_, None) => v1::node::TlsStatus::Unknown,
    }
}

/// Nodes as they are shown: what the leader knows of them at this moment is not in their records.
struct Shown<'a> {
    view: View,
    members: Vec<MemberStatus>,
    sessions: &'a Sessions,
}

impl<'a> Shown<'a> {
    fn of(context: &'a Context) -> Self {
        Self { view: context.store.view(), members: members(context), sessions: &context.sessions }
    }

    fn all(&self, nodes: Vec<&Arc<Node>>) -> Vec<v1::Node> {
        nodes.into_iter().map(|node| self.node(node)).collect()
    }

    fn node(&self, node: &Node) -> v1::Node {
        let member = self.members.iter().find(|status| status.member.node == node.id);
        let reachability = match (node.manager, member) {
            (false, _) => v1::node::Reachability::None,
            (true, Some(status)) if status.reachable == Some(true) => v1::node::Reachability::Reachable,
            (true, Some(_)) => v1::node::Reachability::Unreachable,
            (true, None) => v1::node::Reachability::Unknown,
        };
        v1::Node {
            leader: member.is_some_and(|status| status.leader),
            reachability: reachability.into(),
            tls_status: tls_status(&self.view, node).into(),
            ..self.at_this_moment(node).into()
        }
    }

    /// A node that counts as ready, because its heartbeats are not overdue, may be known not to be there all the same.
    fn at_this_moment(&self, node: &Node) -> Node {
        let (state, message) = match (node.state, self.sessions.connection(node.id)) {
            (NodeState::Ready, Some(Connection::Lost)) => (
                NodeState::Disconnected,
                "its connection has ended: it is down when it has not come back before its heartbeats are overdue",
            ),
            (NodeState::Ready, Some(Connection::Awaited)) => {
                (NodeState::Unknown, "it has not come to the manager that leads now yet")
            }
            (state, _) => (state, node.message.as_str()),
        };
        Node { state, message: message.to_owned(), ..node.clone() }
    }
}
