//! Founding a cluster: this node is its first manager.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use secretd_ca::{Authority, CertificateDer, Identity, JoinToken, NodeKey, NodeRole, RootDigest, Subject, TokenSecret};
use secretd_core::node::{Availability, ClusterSpec};
use secretd_manager::found::{Founder, check_spec, found, shown};
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_proto::id::{ClusterId, NodeId};
use secretd_proto::v1;
use secretd_store::ClusterRecord;
use tokio::net::TcpListener;

use super::keys::Keys;
use super::lifecycle::Lifecycle;
use super::membership::{Membership, Stage};
use super::{address, listener, refusals};

impl Lifecycle {
    pub(super) async fn init(&mut self, request: v1::InitClusterRequest) -> Result<v1::InitClusterResponse, Refusal> {
        if request.force_new_cluster {
            return self.go_on_alone().await;
        }
        self.check_free()?;
        let spec = request.spec.map_or_else(|| Ok(ClusterSpec::default()), ClusterSpec::try_from);
        let spec = spec.map_err(refusals::invalid)?;
        check_spec(&spec)?;
        let availability = availability(request.availability)?;
        let system = address::of_system().map_err(|error| refusals::failed(&error.into()))?;
        let listen = address::listen(&request.listen, &system).map_err(refusals::invalid)?;
        let advertise = address::advertise(&request.advertise, listen, &system).map_err(refusals::invalid)?;
        let listener = bind(listen).await?;
        match self.found(spec, availability, (listen, advertise), listener).await {
            Ok(answer) => Ok(answer),
            Err(refusal) => {
                self.abandon().await;
                Err(refusal)
            }
        }
    }

    async fn found(
        &mut self,
        spec: ClusterSpec,
        availability: Availability,
        (listen, address): (SocketAddr, SocketAddr),
        listener: TcpListener,
    ) -> Result<v1::InitClusterResponse, Refusal> {
        let failed = |error: anyhow::Error| refusals::failed(&error);
        let (cluster, node) = (ClusterId::random(), NodeId::random());
        let now = self.node.clock.now();
        let authority = Authority::generate(cluster, now).context("the authority").map_err(failed)?;
        let key = NodeKey::generate().context("the node's key").map_err(failed)?;
        let request = key.request().context("the node's key").map_err(failed)?;
        let subject = Subject { cluster, identity: Identity::Node { id: node, role: NodeRole::Manager } };
        let certificate = authority.issue(&request, &subject, spec.cert_expiry, now);
        let certificate = certificate.context("the node's certificate").map_err(failed)?;
        let mut membership = Membership {
            cluster,
            node,
            stage: Stage::Founding,
            manager: true,
            address,
            listen,
            managers: vec![address.to_string()],
            roots: vec![authority.certificate().to_vec()],
            certificate: certificate.to_vec(),
            key: key.expose_pkcs8(),
        };
        self.file().and_then(|file| file.save(&membership)).map_err(failed)?;
        self.begin(membership.clone(), Some(listener)).await.map_err(failed)?;
        let Some(part) = &mut self.part else { return Err(refusals::not_part()) };
        let Some(manager) = &part.manager else { return Err(refusals::not_part()) };
        let store = manager.store.clone();
        let description = self.node.description.borrow().clone();
        let founder = Founder { node, address: address.to_string(), description, availability };
        found(&store, cluster, &authority, spec, founder).await?;
        membership.stage = Stage::Member;
        part.membership = membership.clone();
        self.file().and_then(|file| file.save(&membership)).map_err(failed)?;
        let record = store.view().cluster_record().cloned().ok_or_else(refusals::not_part)?;
        Ok(v1::InitClusterResponse {
            cluster_id: cluster.to_string(),
            node_id: node.to_string(),
            unlock_key: record.keys.unlock.as_deref().map(shown).unwrap_or_default(),
            worker_token: worker_token(&record).map_err(failed)?,
            address: address.to_string(),
        })
    }

    /// Refuses to make a node part of a second cluster.
    pub(super) fn check_free(&self) -> Result<(), Refusal> {
        match (&self.keys, &self.part) {
            (Keys::Locked(_), _) => Err(refusals::locked()),
            (Keys::Open(_), Some(_)) => Err(refusals::already_in_cluster()),
            (Keys::Open(_), None) => match (&self.stuck, self.check_nothing_is_left()) {
                (Some(stuck), _) => Err(stuck.clone()),
                (None, Err(error)) => Err(refusals::stuck(&error)),
                (None, Ok(())) => Ok(()),
            },
        }
    }

    /// Nothing is left of what could not be finished.
    pub(super) async fn abandon(&mut self) {
        if let Some(part) = self.part.take() {
            part.end().await;
        }
        if let Err(error) = self.forget() {
            tracing::error!(error = &*error, "what is left of an attempt cannot be removed");
        }
    }
}

/// The token with which workers join.
pub(super) fn worker_token(record: &ClusterRecord) -> anyhow::Result<String> {
    let root = record.cluster.roots.first().context("the cluster has no root")?;
    let secret = record.keys.worker.secret.expose().try_into().context("the join secret")?;
    let root = RootDigest::of(&CertificateDer::from(root.clone()));
    Ok(JoinToken { root, secret: TokenSecret::from_bytes(secret) }.expose())
}

pub(super) fn availability(wire: i32) -> Result<Availability, Refusal> {
    let availability = v1::node::Availability::try_from(wire);
    availability.map(Availability::from).map_err(|_| refusals::invalid("the availability is not known"))
}

pub(super) async fn bind(listen: SocketAddr) -> Result<TcpListener, Refusal> {
    listener::bind(listen).await.map_err(|error| {
        let kind = error.kind();
        let advice = match () {
            () if kind == io::ErrorKind::AddrInUse => "stop what listens there, or give another --listen-addr",
            () if kind == io::ErrorKind::AddrNotAvailable => "give an address of this system (--listen-addr)",
            () => "give another --listen-addr",
        };
        Refusal::new(Code::InvalidArgument, format!("{}: {advice}", cannot_listen(listen, &error)))
    })
}

/// What, and why, without what to do.
pub(super) fn cannot_listen(listen: SocketAddr, error: &io::Error) -> String {
    let reason = error.to_string().to_lowercase();
    format!("cannot listen on {listen}: {}", reason.split(" (os error").next().unwrap_or_default())
}
