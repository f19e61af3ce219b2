//! The root certificates, and their replacement.

use std::time::Duration;

use futures::stream;
use secretd_ca::{Authority, CertificateDer};
use secretd_core::node::Node;
use secretd_core::wire::{duration_from_wire, time_to_wire};
use secretd_proto::v1;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{Change, Event, Op, View, Watch};

use super::nodes::tls_status;
use super::{Context, Messages};
use crate::audit::record;
use crate::caller::Caller;
use crate::found::check_spec;
use crate::refusal::Refusal;
use crate::rotation::{Progress, begin, digest};

pub(super) fn get(context: &Context) -> Result<v1::GetAuthorityResponse, Refusal> {
    Ok(status(&context.view()?))
}

/// What there is to know of it.
fn status(view: &View) -> v1::GetAuthorityResponse {
    let Some(cluster) = view.cluster_record() else { return v1::GetAuthorityResponse::default() };
    let progress = Progress::of(view);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let first = cluster.cluster.roots.first().map(|root| digest(root));
    let is_replaced = |issuer: &[u8; 32]| first.is_some_and(|first| first.as_bytes() != issuer);
    let operators = cluster.operators.iter().filter(|operator| operator.revoked_at.is_none());
    let behind = progress
        .behind
        .iter()
        .map(|node| v1::Node { tls_status: tls_status(view, node).into(), ..Node::clone(node).into() });
    v1::GetAuthorityResponse {
        roots: cluster.cluster.roots.clone(),
        digest: first.map(|first| first.to_string()).unwrap_or_default(),
        rotation_started_at: cluster.cluster.rotation.as_ref().map(|rotation| time_to_wire(rotation.started_at)),
        nodes: number(progress.nodes),
        rotated: number(progress.rotated.len()),
        behind: behind.collect(),
        replaced: operators.filter(|known| is_replaced(&known.issuer)).cloned().map(Into::into).collect(),
        retired: cluster.cluster.retired.iter().map(|retired| digest(&retired.root).to_string()).collect(),
    }
}

pub(super) fn watch(context: &Context) -> Result<Messages<v1::GetAuthorityResponse>, Refusal> {
    context.view()?;
    let (view, watch) = context.store.view_and_watch();
    let watching = (watch, Some(status(&view)));
    Ok(Box::pin(stream::unfold(watching, |(mut watch, first)| async {
        let message = match first {
            Some(first) => first,
            None => next(&mut watch).await?,
        };
        Some((Ok(message), (watch, None)))
    })))
}

/// The next message. All changes that are there make one; a state that was replaced as a whole ends the stream.
async fn next(watch: &mut Watch) -> Option<v1::GetAuthorityResponse> {
    let mut change = watch.next().await?;
    let mut concerned = concerns(&change);
    loop {
        if let Some(newer) = watch.try_next() {
            concerned |= concerns(&newer);
            change = newer;
        } else if concerned {
            return Some(status(&change.view));
        } else {
            change = watch.next().await?;
            concerned = concerns(&change);
        }
    }
}

fn concerns(change: &Change) -> bool {
    change.events.iter().any(|event| match event {
        Event::ClusterCreated(_) | Event::ClusterUpdated { .. } | Event::NodeCreated(_) | Event::NodeRemoved(_) => true,
        Event::NodeUpdated { old, new } => (old.certificate, old.state) != (new.certificate, new.state),
        Event::SecretCreated(_)
        | Event::SecretUpdated { .. }
        | Event::SecretRemoved(_)
        | Event::ServiceCreated(_)
        | Event::ServiceUpdated { .. }
        | Event::ServiceRemoved(_)
        | Event::TaskCreated(_)
        | Event::TaskUpdated { .. }
        | Event::TaskRemoved(_) => false,
    })
}

pub(super) async fn rotate(
    context: &Context,
    caller: Option<Caller>,
    request: v1::RotateAuthorityRequest,
) -> Result<v1::RotateAuthorityResponse, Refusal> {
    let view = context.view()?;
    let old = view.cluster_record().ok_or_else(Refusal::not_initialized)?;
    let v1::RotateAuthorityRequest { root, key, cert_expiry } = request;
    let key = KeyBytes::new(key);
    let outcome = async {
        let brought = brought(root, &key, context)?;
        let cert_expiry: Duration = duration_from_wire("cert_expiry", cert_expiry, old.cluster.spec.cert_expiry)?;
        let next = begin(old, brought, cert_expiry, context.now())?;
        check_spec(&next.cluster.spec)?;
        let new = next.cluster.roots.first().map(|root| digest(root).to_string()).unwrap_or_default();
        let expect = old.cluster.meta.version;
        context.store.propose(vec![Op::UpdateCluster { expect, record: next }]).await?;
        Ok(new)
    };
    let digest = record(caller, "authority.rotate", old.cluster.id, outcome.await)?;
    Ok(v1::RotateAuthorityResponse { digest })
}

/// The root that an operator brings, if it does.
fn brought(root: Vec<u8>, key: &KeyBytes, context: &Context) -> Result<Option<Authority>, Refusal> {
    match (root.is_empty(), key.expose().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => {
            let brought = Authority::brought(&CertificateDer::from(root), key.expose(), context.now());
            brought.map(Some).map_err(Refusal::invalid)
        }
        _ => Err(Refusal::invalid("a root certificate and its key come together")),
    }
}
