//! Replacing the authority's root. From the first moment the new root's key makes all certificates, and every node renews
//! its own as soon as it is told of it; both roots count meanwhile, and the new one's certificate, signed by the old one,
//! leads those who know the old root alone. It is over when every node that is there has a certificate of the new root. A
//! node that is away does not hold it up: it is left behind by name, and its old root is remembered, for renewing that
//! node's certificate and for nothing else.
//!
//! Pure but for [`keep`]: [`begin`] and [`plan`] make the cluster's next record from the present one.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use secretd_ca::{Authority, CertificateDer, ReplaceError, RootDigest, TokenSecret};
use secretd_core::node::{Cluster, Node, NodeState, RetiredRoot, RootRotation};
use secretd_core::seam::clock::Clock;
use secretd_core::time::Timestamp;
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{ClusterRecord, JoinSecret, MemberStatus, Op, ProposeError, Store, View};
use tokio::time::{Instant, sleep_until};

use crate::admission::authority;
use crate::audit::record;
use crate::manager::Ended;
use crate::refusal::Refusal;

/// How long nodes that seem to be there are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node may have been away, and have its certificate renewed all the same.
const REMEMBERED: Duration = Duration::from_hours(365 * 24);
/// Roots that are remembered: what leads from one to the next is shown with each handshake.
const MOST_REMEMBERED: usize = 3;
/// Between attempts while the store takes nothing.
const RETRY: Duration = Duration::from_secs(1);

/// The digest of a root certificate.
pub(crate) fn digest(root: &[u8]) -> RootDigest {
    RootDigest::of(&CertificateDer::from(root))
}

/// How far the nodes are: those with a certificate of the first root, and those with one of another.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    pub(crate) nodes: usize,
    pub(crate) rotated: Vec<&'a Arc<Node>>,
    pub(crate) behind: Vec<&'a Arc<Node>>,
}

impl<'a> Progress<'a> {
    pub(crate) fn of(view: &'a View) -> Self {
        let first = view.cluster().and_then(|cluster| cluster.roots.first()).map(|root| digest(root));
        let mut progress = Self { nodes: view.nodes().count(), rotated: Vec::new(), behind: Vec::new() };
        for node in view.nodes() {
            match node.certificate {
                Some(certificate) if first.is_some_and(|first| *first.as_bytes() == certificate.issuer) => {
                    progress.rotated.push(node);
                }
                Some(_) => progress.behind.push(node),
                None => {}
            }
        }
        progress
    }
}

/// The record with which the replacement begins: `brought` is the new root, where an operator has one.
pub(crate) fn begin(
    old: &ClusterRecord,
    brought: Option<Authority>,
    cert_expiry: Duration,
    now: Timestamp,
) -> Result<ClusterRecord, Refusal> {
    if old.cluster.rotation.is_some() {
        let message = "the root certificate is being replaced already: wait until that is over (\"sctl cluster ca\")";
        return Err(Refusal::new(Code::OutOfSequence, message));
    }
    let (id, present) = (old.cluster.id, authority(old)?);
    let new = match brought {
        Some(brought) => brought,
        None => Authority::generate(id, now).map_err(|error| Refusal::new(Code::Internal, error))?,
    };
    let cross = present.lead_to(&new, id, now).map_err(|error| {
        let code = if matches!(error, ReplaceError::Authority(_)) { Code::Corrupt } else { Code::InvalidArgument };
        Refusal::new(code, error)
    })?;
    let mut cluster = Cluster::clone(&old.cluster);
    cluster.spec.cert_expiry = cert_expiry;
    cluster.roots.truncate(1);
    cluster.roots.insert(0, new.certificate().to_vec());
    cluster.rotation = Some(RootRotation { cross: cross.to_vec(), started_at: now });
    let mut keys = old.keys.clone();
    keys.authority = Arc::new(KeyBytes::new(new.expose_key().to_vec()));
    Ok(ClusterRecord { cluster: Arc::new(cluster), keys, ..old.clone() })
}

/// What is to be done next about the authority.
#[derive(Debug)]
pub(crate) enum Step {
    /// The replacement is over.
    Finish(ClusterRecord),
    /// Old roots that nobody needs any more are forgotten.
    Forget(ClusterRecord),
}

/// The next step; `None` while there is nothing to do, or nodes are waited for. `tokens` are the secrets of the next join
/// tokens: of workers, of managers.
pub(crate) fn plan(
    view: &View,
    members: &[MemberStatus],
    is_patient: bool,
    tokens: [TokenSecret; 2],
    now: Timestamp,
) -> Option<Step> {
    let record = view.cluster_record()?;
    let progress = Progress::of(view);
    let Some(rotation) = &record.cluster.rotation else { return forget(record, &progress, now).map(Step::Forget) };
    let rotated: BTreeSet<NodeId> = progress.rotated.iter().map(|node| node.id).collect();
    let is_there = |node: &Arc<Node>| matches!(node.state, NodeState::Ready | NodeState::Unknown);
    let waits = view.nodes().any(|node| !rotated.contains(&node.id) && is_there(node));
    // Managers refuse each other's old certificates afterwards: a majority must not lose its say.
    let voters = members.iter().filter(|status| status.voter);
    let (votes, ready) = voters
        .fold((0, 0), |(votes, ready), status| (votes + 1, ready + usize::from(rotated.contains(&status.member.node))));
    if (waits && is_patient) || (votes > 0 && ready * 2 <= votes) {
        return None;
    }
    let mut cluster = Cluster::clone(&record.cluster);
    let old = cluster.roots.split_off(1);
    for root in old {
        cluster.retired.push(RetiredRoot { root, cross: rotation.cross.clone(), retired_at: now });
    }
    cluster.rotation = None;
    let mut keys = record.keys.clone();
    let [worker, manager] = tokens;
    keys.worker = renewed(&keys.worker, &worker);
    keys.manager = renewed(&keys.manager, &manager);
    let record = ClusterRecord { cluster: Arc::new(cluster), keys, ..record.clone() };
    Some(Step::Finish(forget(&record, &progress, now).unwrap_or(record)))
}

/// Another token, with the limits that the old one has.
fn renewed(old: &JoinSecret, secret: &TokenSecret) -> JoinSecret {
    JoinSecret { secret: Arc::new(KeyBytes::new(secret.expose().to_vec())), ..old.clone() }
}

/// The record without the roots that nobody needs any more, or which have been remembered for long; `None` when there are
/// no such. Operators need theirs to be told why they are refused.
fn forget(record: &ClusterRecord, progress: &Progress<'_>, now: Timestamp) -> Option<ClusterRecord> {
    let nodes = progress.behind.iter().filter_map(|node| node.certificate).map(|certificate| certificate.issuer);
    let operators = record.operators.iter().filter(|known| known.revoked_at.is_none() && known.expires_at >= now);
    let needed: BTreeSet<[u8; 32]> = nodes.chain(operators.map(|operator| operator.issuer)).collect();
    let until = |at: Timestamp| at.0.saturating_add(i64::try_from(REMEMBERED.as_nanos()).unwrap_or(i64::MAX));
    let mut retired = record.cluster.retired.clone();
    let surplus = retired.len().saturating_sub(MOST_REMEMBERED);
    retired.drain(..surplus);
    // What leads from an older root on goes through the younger ones.
    let oldest = retired
        .iter()
        .position(|retired| needed.contains(digest(&retired.root).as_bytes()) && until(retired.retired_at) >= now.0);
    retired.drain(..oldest.unwrap_or(retired.len()));
    if retired == record.cluster.retired {
        return None;
    }
    let cluster = Arc::new(Cluster { retired, ..Cluster::clone(&record.cluster) });
    Some(ClusterRecord { cluster, ..record.clone() })
}

/// Brings replacements to their end. Runs while this manager leads.
pub(crate) async fn keep(store: Store, clock: Arc<dyn Clock>) -> Result<Infallible, Ended> {
    let mut waits: Option<(RootDigest, Instant)> = None;
    loop {
        let (view, mut changes) = store.view_and_watch();
        let rotating = view.cluster().filter(|cluster| cluster.rotation.is_some());
        let new = rotating.and_then(|cluster| cluster.roots.first()).map(|root| digest(root));
        waits = new.map(|new| match waits {
            Some((known, until)) if known == new => (new, until),
            Some(_) | None => (new, Instant::now() + PATIENCE),
        });
        let deadline = waits.map(|(_, until)| until);
        let is_patient = deadline.is_some_and(|until| Instant::now() < until);
        let retry = advance(&store, &view, is_patient, &*clock).await;
        let until = match (retry, is_patient) {
            (true, _) => Some(Instant::now() + RETRY),
            (false, true) => deadline,
            // Managers are missed, which no change of the state tells.
            (false, false) => new.map(|_| Instant::now() + RETRY),
        };
        let later = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.next() => if change.is_none() && store.is_closed() {
                return Err(Ended::StoreClosed);
            },
            () = later => {}
        }
    }
}

/// Takes the next step, if there is one: whether it must be tried again.
async fn advance(store: &Store, view: &View, is_patient: bool, clock: &dyn Clock) -> bool {
    let is_idle = |record: &ClusterRecord| record.cluster.rotation.is_none() && record.cluster.retired.is_empty();
    let Some(record_now) = view.cluster_record().filter(|record| !is_idle(record)) else { return false };
    let (Ok(worker), Ok(manager)) = (TokenSecret::generate(), TokenSecret::generate()) else { return true };
    let members = store.replica().map(|replica| replica.members()).unwrap_or_default();
    let Some(step) = plan(view, &members, is_patient, [worker, manager], clock.now()) else { return false };
    let expect = record_now.cluster.meta.version;
    let (action, next) = match step {
        Step::Finish(next) => ("authority.rotated", next),
        Step::Forget(next) => ("authority.forget", next),
    };
    let id = next.cluster.roots.first().map(|root| digest(root).to_string()).unwrap_or_default();
    match store.propose(vec![Op::UpdateCluster { expect, record: next }]).await {
        Err(ProposeError::Conflict(_)) => false, // it has changed meanwhile, and is looked at again
        outcome => record(None, action, id, outcome.map_err(Refusal::from)).is_err(),
    }
}

#[cfg(test)]
mod tests;
