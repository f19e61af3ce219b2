//! Restoring a cluster from a backup: this node becomes its first manager, with all that it was when the backup was taken.
//!
//! The store is made beside its place and put there when it is whole. Nodes of the old cluster keep their certificates;
//! its managers are none any more.

use std::net::SocketAddr;

use anyhow::Context;
use camino::Utf8PathBuf;
use secretd_ca::{Authority, CertificateDer, Identity, NodeKey, NodeRole, Subject};
use secretd_core::node::Availability;
use secretd_core::wire::time_to_wire;
use secretd_manager::found::{Founder, restored};
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_sealing::backup::{BackupError as SealError, BackupKey, BackupSecret};
use secretd_sealing::secret::KeyBytes;
use secretd_store::{BackupError, ClusterRecord, Member, Restore, Restored};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::founding::{availability, bind};
use super::lifecycle::Lifecycle;
use super::membership::{Membership, Stage, sync};
use super::{address, refusals};

/// A backup on its way to this node.
#[derive(Debug)]
pub(crate) struct Restoring {
    pub(crate) begin: v1::RestoreBegin,
    pub(crate) file: mpsc::Receiver<Vec<u8>>,
}

impl Lifecycle {
    pub(super) async fn restore(&mut self, restoring: Restoring) -> Result<v1::RestoreClusterResponse, Refusal> {
        self.check_free()?;
        let Restoring { begin, file } = restoring;
        let secret = secret(begin.key)?;
        let availability = availability(begin.availability)?;
        let system = address::of_system().map_err(|error| refusals::failed(&error.into()))?;
        let listen = address::listen(&begin.listen, &system).map_err(refusals::invalid)?;
        let advertise = address::advertise(&begin.advertise, listen, &system).map_err(refusals::invalid)?;
        let listener = bind(listen).await?;
        let own = Member { node: NodeId::random(), address: advertise.to_string() };
        let made = self.receive(secret, file, own.clone()).await?;
        match self.go_on_restored(&made, (own.node, availability), (listen, advertise), listener).await {
            Ok(()) => self.answer(&made),
            Err(refusal) => {
                self.abandon().await;
                Err(refusal)
            }
        }
    }

    /// Makes the store beside its place.
    async fn receive(
        &self,
        secret: BackupSecret,
        mut file: mpsc::Receiver<Vec<u8>>,
        own: Member,
    ) -> Result<Restored, Refusal> {
        let directory = self.restoring();
        let sealer = self.keys.open().map_err(|error| refusals::failed(&error))?.sealer();
        let receive = move || {
            let mut restore = Restore::begin(directory, sealer, secret)?;
            while let Some(piece) = file.blocking_recv() {
                restore.take(&piece)?;
            }
            restore.finish(own)
        };
        let received = tokio::task::spawn_blocking(receive).await.context("the backup is not read");
        received.map_err(|error| refusals::failed(&error))?.map_err(refused)
    }

    fn restoring(&self) -> Utf8PathBuf {
        self.data.join("restoring")
    }

    async fn go_on_restored(
        &mut self,
        made: &Restored,
        (node, availability): (NodeId, Availability),
        addresses: (SocketAddr, SocketAddr),
        listener: TcpListener,
    ) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| refusals::failed(&error);
        let mut membership = self.first_manager(&made.cluster, node, addresses).map_err(failed)?;
        self.file().and_then(|file| file.save(&membership)).map_err(failed)?;
        self.put_store_in_place().map_err(failed)?;
        self.begin(membership.clone(), Some(listener)).await.map_err(failed)?;
        let Some(part) = &mut self.part else { return Err(refusals::not_part()) };
        let Some(manager) = &part.manager else { return Err(refusals::not_part()) };
        let description = self.node.description.borrow().clone();
        let founder = Founder { node, address: addresses.1.to_string(), description, availability };
        restored(&manager.store, founder, self.node.clock.now()).await?;
        membership.stage = Stage::Member;
        part.membership = membership.clone();
        self.file().and_then(|file| file.save(&membership)).map_err(failed)
    }

    /// What this node is in the restored cluster.
    fn first_manager(
        &self,
        record: &ClusterRecord,
        node: NodeId,
        (listen, address): (SocketAddr, SocketAddr),
    ) -> anyhow::Result<Membership> {
        let root = record.cluster.roots.first().context("the cluster has no root")?;
        let authority = Authority::from_parts(root, record.keys.authority.expose()).context("the authority")?;
        let key = NodeKey::generate().context("the node's key")?;
        let request = key.request().context("the node's key")?;
        let cluster = record.cluster.id;
        let subject = Subject { cluster, identity: Identity::Node { id: node, role: NodeRole::Manager } };
        let expiry = record.cluster.spec.cert_expiry;
        let certificate: CertificateDer<'_> =
            authority.issue(&request, &subject, expiry, self.node.clock.now()).context("the node's certificate")?;
        Ok(Membership {
            cluster,
            node,
            stage: Stage::Founding,
            manager: true,
            address,
            listen,
            managers: vec![address.to_string()],
            roots: record.cluster.bundle(),
            certificate: certificate.to_vec(),
            key: key.expose_pkcs8(),
        })
    }

    fn put_store_in_place(&self) -> anyhow::Result<()> {
        let store = self.data.join("store");
        std::fs::rename(self.restoring(), &store).and_then(|()| sync(&self.data)).with_context(|| store.to_string())
    }

    fn answer(&self, made: &Restored) -> Result<v1::RestoreClusterResponse, Refusal> {
        let Some(part) = &self.part else { return Err(refusals::not_part()) };
        let Some(manager) = &part.manager else { return Err(refusals::not_part()) };
        let view = manager.store.view();
        Ok(v1::RestoreClusterResponse {
            cluster_id: part.membership.cluster.to_string(),
            node_id: part.membership.node.to_string(),
            address: part.membership.address.to_string(),
            taken_at: Some(time_to_wire(made.taken_at)),
            secrets: u32::try_from(view.secrets().count()).unwrap_or(u32::MAX),
            services: u32::try_from(view.services().count()).unwrap_or(u32::MAX),
        })
    }
}

/// What was typed: a key that was printed, or else a passphrase.
fn secret(typed: Vec<u8>) -> Result<BackupSecret, Refusal> {
    let typed = KeyBytes::new(typed);
    match std::str::from_utf8(typed.expose()) {
        Ok(text) if text.starts_with("SCTLBACKUP-") => {
            text.parse::<BackupKey>().map(BackupSecret::Key).map_err(refusals::invalid)
        }
        Ok(_) | Err(_) => Ok(BackupSecret::Passphrase(typed)),
    }
}

fn refused(error: BackupError) -> Refusal {
    match error {
        BackupError::Seal(error @ (SealError::WrongKey | SealError::WrongPassphrase)) => {
            Refusal::new(Code::PermissionDenied, error)
        }
        BackupError::Seal(error) => refusals::invalid(error),
        BackupError::Format(_) | BackupError::Content(_) => refusals::invalid(error),
        BackupError::Receive(_) | BackupError::Storage(_) => refusals::failed(&error.into()),
    }
}
