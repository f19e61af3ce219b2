//! The Admission service: certificates for nodes that show a join token, and new ones for nodes that have one.

use std::sync::Arc;

use secretd_ca::{Authority, CertificateDer, Identity, NodeRole, Subject};
use secretd_core::node::{Availability, NodeDescription};
use secretd_core::seam::clock::Clock;
use secretd_core::time::Timestamp;
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_proto::v1::admission_server::Admission;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{ClusterRecord, Conflict, JoinSecretRefusal, Op, Store};
use subtle::ConstantTimeEq;
use tonic::{Request, Response, Status};

use crate::audit::record;
use crate::caller::Caller;
use crate::found::new_node;
use crate::refusal::Refusal;

/// The Admission service.
#[derive(Debug, Clone)]
pub(crate) struct AdmissionService {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl AdmissionService {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    fn cluster(&self) -> Result<ClusterRecord, Refusal> {
        self.store.view().cluster_record().cloned().ok_or_else(Refusal::not_initialized)
    }

    async fn take_in(&self, request: v1::AdmitRequest, id: NodeId) -> Result<v1::AdmitResponse, Refusal> {
        let cluster = self.cluster()?;
        let role = role_of(&cluster, &request.secret, self.clock.now())?;
        let availability = v1::node::Availability::try_from(request.availability)
            .map_err(|_| Refusal::invalid("the availability is not known"))?;
        let description = request.description.ok_or_else(|| Refusal::invalid("the node has no description"))?;
        let certificate = issue(&cluster, &request.request, id, role, self.clock.now())?;
        let node = new_node(
            id,
            request.address,
            NodeDescription::from(description),
            Availability::from(availability),
            role == NodeRole::Manager,
        );
        // The certificate is given out only when the node is recorded: nobody else could be it.
        let op = Op::AdmitNode { node, secret: Arc::new(KeyBytes::new(request.secret)) };
        self.store.propose(vec![op]).await?;
        Ok(v1::AdmitResponse {
            cluster_id: cluster.cluster.id.to_string(),
            node_id: id.to_string(),
            manager: role == NodeRole::Manager,
            certificate: certificate.to_vec(),
            roots: cluster.cluster.bundle(),
            managers: self.managers(),
        })
    }

    fn managers(&self) -> Vec<String> {
        let members = self.store.replica().map(|replica| replica.members()).unwrap_or_default();
        members.into_iter().map(|status| status.member.address).collect()
    }
}

/// A certificate, and what is to be known of the authority: see [`Cluster::bundle`](secretd_core::node::Cluster::bundle).
#[derive(Debug)]
#[allow(missing_docs)] // the names say it
pub struct Reissued {
    pub certificate: CertificateDer<'static>,
    pub roots: Vec<Vec<u8>>,
}

/// Another certificate for this node's own manager, by the authority's key in its own store; `None` where the state has no cluster yet, or knows the node as no manager.
///
/// # Errors
/// When the request or the authority is not usable.
pub fn reissue(store: &Store, request: &[u8], node: NodeId, now: Timestamp) -> Result<Option<Reissued>, Refusal> {
    let view = store.view();
    let is_manager = view.node(&node).is_some_and(|node| node.manager);
    let Some(cluster) = view.cluster_record().filter(|_| is_manager) else { return Ok(None) };
    let certificate = record(None, "node.renew", node, issue(cluster, request, node, NodeRole::Manager, now))?;
    Ok(Some(Reissued { certificate, roots: cluster.cluster.bundle() }))
}

fn issue(
    cluster: &ClusterRecord,
    request: &[u8],
    id: NodeId,
    role: NodeRole,
    now: Timestamp,
) -> Result<CertificateDer<'static>, Refusal> {
    let authority = authority(cluster)?;
    let subject = Subject { cluster: cluster.cluster.id, identity: Identity::Node { id, role } };
    authority.issue(request, &subject, cluster.cluster.spec.cert_expiry, now).map_err(Refusal::invalid)
}

/// The authority of a cluster.
pub(crate) fn authority(cluster: &ClusterRecord) -> Result<Authority, Refusal> {
    let root = cluster.cluster.roots.first().ok_or_else(|| Refusal::new(Code::Corrupt, "the cluster has no root"))?;
    let authority = Authority::from_parts(root, cluster.keys.authority.expose());
    authority.map_err(|error| Refusal::new(Code::Corrupt, error))
}

/// What a node may join as. Both tokens are compared, and in constant time, whichever it is.
fn role_of(cluster: &ClusterRecord, secret: &[u8], now: Timestamp) -> Result<NodeRole, Refusal> {
    let is = |token: &secretd_store::JoinSecret| bool::from(token.secret.expose().ct_eq(secret));
    let (worker, manager) = (is(&cluster.keys.worker), is(&cluster.keys.manager));
    let refused = |refusal| Refusal::from(Conflict::JoinToken(refusal));
    let (role, token) = match (worker, manager) {
        (true, _) => (NodeRole::Worker, &cluster.keys.worker),
        (_, true) => (NodeRole::Manager, &cluster.keys.manager),
        (false, false) => return Err(refused(JoinSecretRefusal::Unknown)),
    };
    token.counts(now).map_err(refused)?;
    Ok(role)
}

#[tonic::async_trait]
impl Admission for AdmissionService {
    async fn admit(&self, request: Request<v1::AdmitRequest>) -> Result<Response<v1::AdmitResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let id = NodeId::random();
        let outcome = self.take_in(request.into_inner(), id).await;
        record(caller, "node.join", id, outcome).map(Response::new).map_err(Status::from)
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let Some(Caller::Node { id, .. }) = caller else {
            return Err(Refusal::new(Code::PermissionDenied, "a node alone has its certificate renewed").into());
        };
        let renewed = async {
            let cluster = self.cluster()?;
            let view = self.store.view();
            let gone =
                || Refusal::new(Code::PermissionDenied, format!("node {id} is no node of this cluster any more"));
            let node = view.node(&id).ok_or_else(gone)?;
            // A demoted manager stays one until raft does without it.
            let members = self.store.replica().map(|replica| replica.members()).unwrap_or_default();
            let takes_part = members.iter().any(|status| status.member.node == id);
            let manager = node.manager || takes_part;
            let role = if manager { NodeRole::Manager } else { NodeRole::Worker };
            let certificate = issue(&cluster, &request.into_inner().request, id, role, self.clock.now())?;
            let roots = cluster.cluster.bundle();
            Ok(v1::RenewResponse { manager, certificate: certificate.to_vec(), roots, takes_part })
        };
        record(caller, "node.renew", id, renewed.await).map(Response::new).map_err(Status::from)
    }
}
