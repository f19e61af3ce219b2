//! The cluster itself: founding it, what it is, and the key to seal to.

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::node::{Availability, Node, NodeState};
use secretd_core::task::TaskState;
use secretd_core::time::Meta;
use secretd_proto::code::Code;
use secretd_proto::id::{ClusterId, NodeId};
use secretd_proto::v1;
use secretd_sealing::key::PrivateKey;
use secretd_store::Op;

use super::Context;
use crate::audit::{Peer, record};
use crate::manager::local_node;
use crate::refusal::Refusal;

pub(super) async fn init_cluster(
    context: &Context,
    peer: Option<Peer>,
    _: v1::InitClusterRequest,
) -> Result<v1::InitClusterResponse, Refusal> {
    let (cluster, node_id) = (ClusterId::random(), NodeId::random());
    let node = Node {
        id: node_id,
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        manager: true,
        state: NodeState::Unknown,
        message: "its agent has not connected yet".to_owned(),
        address: "127.0.0.1:7377".to_owned(),
        description: context.facts.borrow().description.clone(),
    };
    let sealing_key = PrivateKey::generate().map_err(|error| Refusal::new(Code::Internal, error))?;
    let sealing_key = Arc::new(sealing_key);
    let outcome = context.store.propose(vec![Op::InitCluster { cluster, sealing_key, node }]).await;
    record(peer, "cluster.init", cluster, outcome.map_err(Refusal::from))?;
    Ok(v1::InitClusterResponse { cluster_id: cluster.to_string(), node_id: node_id.to_string() })
}

pub(super) fn info(context: &Context, _: v1::GetInfoRequest) -> Result<v1::GetInfoResponse, Refusal> {
    let view = context.store.view();
    let facts = context.facts.borrow().clone();
    let node = local_node(&view);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let running = view.tasks().filter(|task| task.status.state == TaskState::Running);
    let state = if view.cluster().is_some() { "active" } else { "inactive" };
    let described = node.map_or_else(|| facts.description.clone(), |node| node.description.clone());
    Ok(v1::GetInfoResponse {
        server_version: context.version.clone(),
        node_id: node.map(|node| node.id.to_string()).unwrap_or_default(),
        cluster_id: view.cluster().map(|cluster| cluster.id.to_string()).unwrap_or_default(),
        cluster_state: state.to_owned(),
        manager: node.is_some_and(|node| node.manager),
        managers: count(view.nodes().filter(|node| node.manager).count()),
        nodes: count(view.nodes().count()),
        services: count(view.services().count()),
        secrets: count(view.secrets().count()),
        tasks_running: count(running.count()),
        warnings: facts.warnings.iter().chain(&described.secrets.weaknesses).cloned().collect(),
        node: Some(described.into()),
        data_dir: facts.data_dir,
        run_dir: facts.run_dir,
    })
}

pub(super) fn sealing_key(
    context: &Context,
    _: v1::GetSealingKeyRequest,
) -> Result<v1::GetSealingKeyResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster().ok_or_else(Refusal::not_initialized)?;
    Ok(v1::GetSealingKeyResponse { cluster_id: cluster.id.to_string(), sealing_key: cluster.sealing_key.to_vec() })
}
