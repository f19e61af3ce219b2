//! What this node shows of itself at present, and what it demands of others: TLS made from its membership.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::{ClientConfig, ServerConfig};
use secretd_ca::identity::Validity;
use secretd_ca::tls::{self, Credentials};
use secretd_ca::{CertificateDer, NodeKey, NodeRole};
use secretd_core::seam::clock::Clock;
use secretd_manager::Caller;
use secretd_proto::id::{ClusterId, NodeId};

use super::membership::Membership;

/// The credentials of one moment.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) role: NodeRole,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) validity: Validity,
}

impl Own {
    /// # Errors
    /// When certificate and key do not belong together.
    pub(crate) fn of(membership: &Membership, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let certificate = CertificateDer::from(membership.certificate.clone());
        let roots: Vec<_> = membership.roots.iter().cloned().map(CertificateDer::from).collect();
        let validity = Validity::of(&certificate)?;
        let key = NodeKey::from_pkcs8(&membership.key)?;
        // Who has a token alone finds the root in the chain.
        let credentials = Credentials { certificate, key, chain: roots.clone() };
        Ok(Self {
            cluster: membership.cluster,
            node: membership.node,
            role: if membership.manager { NodeRole::Manager } else { NodeRole::Worker },
            client: tls::client_config(&credentials, &roots, Arc::clone(clock))?,
            server: tls::server_config(&credentials, &roots, Arc::clone(clock))?,
            validity,
        })
    }

    /// This node, as a caller within its own process.
    pub(crate) fn caller(&self) -> Caller {
        Caller::Node { id: self.node, role: self.role, expired: false }
    }
}

/// The credentials as they change. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Present(Arc<RwLock<Arc<Own>>>);

impl Present {
    pub(crate) fn new(own: Own) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(own))))
    }

    pub(crate) fn get(&self) -> Arc<Own> {
        Arc::clone(&self.0.read())
    }

    pub(crate) fn set(&self, own: Own) {
        *self.0.write() = Arc::new(own);
    }
}
