//! Join tokens: shown, and replaced.

use std::sync::Arc;
use std::time::Duration;

use secretd_ca::{CertificateDer, JoinToken, RootDigest, TokenSecret};
use secretd_core::time::Timestamp;
use secretd_core::wire::{duration_from_wire, time_to_wire};
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{ClusterRecord, JoinSecret, Op};

use super::Context;
use crate::audit::record;
use crate::caller::Caller;
use crate::refusal::Refusal;

pub(super) async fn get(
    context: &Context,
    caller: Option<Caller>,
    request: v1::GetJoinTokenRequest,
) -> Result<v1::GetJoinTokenResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster_record().cloned().ok_or_else(Refusal::not_initialized)?;
    if !request.rotate && (request.ttl.is_some() || request.uses > 0) {
        return Err(Refusal::invalid("--ttl and --uses make a new token: give --rotate with them"));
    }
    let token = match request.rotate {
        false => {
            if request.manager {
                cluster.keys.manager.clone()
            } else {
                cluster.keys.worker.clone()
            }
        }
        true => {
            let action = if request.manager { "token.rotate.manager" } else { "token.rotate.worker" };
            let id = cluster.cluster.id;
            record(caller, action, id, rotate(context, &cluster, &request).await)?
        }
    };
    shown(context, &cluster, &token)
}

async fn rotate(
    context: &Context,
    cluster: &ClusterRecord,
    request: &v1::GetJoinTokenRequest,
) -> Result<JoinSecret, Refusal> {
    let ttl = match request.ttl {
        None => None,
        some => Some(duration_from_wire("ttl", some, Duration::ZERO)?),
    };
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(Refusal::invalid("a join token must count for some time (--ttl)"));
    }
    let secret = TokenSecret::generate().map_err(|error| Refusal::new(Code::Internal, error))?;
    let expires = |ttl: Duration| context.now().0.saturating_add(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
    let token = JoinSecret {
        secret: Arc::new(KeyBytes::new(secret.expose().to_vec())),
        expires_at: ttl.map(|ttl| Timestamp(expires(ttl))),
        uses_left: (request.uses > 0).then_some(request.uses),
    };
    let mut keys = cluster.keys.clone();
    if request.manager {
        keys.manager = token.clone();
    } else {
        keys.worker = token.clone();
    }
    let expect = cluster.cluster.meta.version;
    let new = ClusterRecord { keys, ..cluster.clone() };
    context.store.propose(vec![Op::UpdateCluster { expect, record: new }]).await?;
    Ok(token)
}

fn shown(context: &Context, cluster: &ClusterRecord, token: &JoinSecret) -> Result<v1::GetJoinTokenResponse, Refusal> {
    let damaged = || Refusal::new(Code::Corrupt, "the cluster's record is damaged");
    let root = cluster.cluster.roots.first().ok_or_else(damaged)?;
    let secret = token.secret.expose().try_into().map_err(|_| damaged())?;
    let root = RootDigest::of(&CertificateDer::from(root.as_slice()));
    let text = JoinToken { root, secret: TokenSecret::from_bytes(secret) }.expose();
    let members = context.store.replica().map(|replica| replica.members()).unwrap_or_default();
    let leader = members.into_iter().find(|status| status.leader).map(|status| status.member.address);
    Ok(v1::GetJoinTokenResponse {
        token: text,
        address: leader.unwrap_or_default(),
        expires_at: token.expires_at.map(time_to_wire),
        uses_left: token.uses_left,
    })
}
