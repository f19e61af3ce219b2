//! The cluster itself: what it is, what operators change of it, and the key to seal to.

use std::sync::Arc;

use secretd_core::node::{Cluster, ClusterSpec};
use secretd_core::wire::duration_from_wire;
use secretd_proto::v1;
use secretd_store::{ClusterRecord, Op};

use super::Context;
use super::unlock_key;
use crate::audit::record;
use crate::caller::Caller;
use crate::found::check_spec;
use crate::refusal::Refusal;

pub(super) fn get_cluster(context: &Context, _: v1::GetClusterRequest) -> Result<v1::GetClusterResponse, Refusal> {
    let view = context.view()?;
    let members = context.store.replica().map(|replica| replica.members()).unwrap_or_default();
    let manager = |status: secretd_store::MemberStatus| v1::Manager {
        node_id: status.member.node.to_string(),
        address: status.member.address,
        leader: status.leader,
        reachable: status.reachable.unwrap_or(false),
        voter: status.voter,
    };
    let cluster = view.cluster().map(|cluster| Cluster::clone(cluster).into());
    Ok(v1::GetClusterResponse {
        cluster,
        managers: members.into_iter().map(manager).collect(),
        state_version: view.version().0,
    })
}

pub(super) async fn update_cluster(
    context: &Context,
    caller: Option<Caller>,
    request: v1::UpdateClusterRequest,
) -> Result<v1::UpdateClusterResponse, Refusal> {
    let view = context.view()?;
    let old = view.cluster_record().cloned().ok_or_else(Refusal::not_initialized)?;
    let id = old.cluster.id;
    let outcome = async {
        let known = &old.cluster.spec;
        let spec = ClusterSpec {
            task_history_limit: request.task_history_limit.unwrap_or(known.task_history_limit),
            heartbeat: duration_from_wire("heartbeat", request.heartbeat, known.heartbeat)?,
            cert_expiry: duration_from_wire("cert_expiry", request.cert_expiry, known.cert_expiry)?,
            autolock: request.autolock.unwrap_or(known.autolock),
        };
        check_spec(&spec)?;
        let mut keys = old.keys.clone();
        if spec.autolock != known.autolock {
            keys = unlock_key::switched(keys, spec.autolock)?;
        }
        let unlock_key = match (spec.autolock && !known.autolock, &keys.unlock) {
            (true, Some(key)) => unlock_key::shown(key),
            (_, _) => String::new(),
        };
        let expect = secretd_core::time::Version(request.version);
        let cluster = Arc::new(Cluster { spec, ..Cluster::clone(&old.cluster) });
        let op = Op::UpdateCluster { expect, record: ClusterRecord { cluster, keys, ..old.clone() } };
        context.store.propose(vec![op]).await?;
        Ok(unlock_key)
    };
    let unlock_key = record(caller, "cluster.update", id, outcome.await)?;
    let cluster = context.store.view().cluster().map(|cluster| Cluster::clone(cluster).into());
    Ok(v1::UpdateClusterResponse { cluster, unlock_key })
}

pub(super) fn sealing_key(
    context: &Context,
    _: v1::GetSealingKeyRequest,
) -> Result<v1::GetSealingKeyResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster().ok_or_else(Refusal::not_initialized)?;
    Ok(v1::GetSealingKeyResponse { cluster_id: cluster.id.to_string(), sealing_key: cluster.sealing_key.to_vec() })
}
