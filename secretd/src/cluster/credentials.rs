//! What this node shows of itself at present, and what it demands of others: TLS made from its membership.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::{ClientConfig, ServerConfig};
use secretd_ca::identity::Validity;
use secretd_ca::tls::{self, Credentials};
use secretd_ca::{CertificateDer, Fingerprint, NodeKey, NodeRole, RootDigest};
use secretd_core::seam::clock::Clock;
use secretd_manager::{Caller, Shown};
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
    /// The roots by which certificates of others may come in, also those with which nothing can be done but renew them.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    /// Which of the roots has made this node's certificate; `None` for one that it does not know any more.
    issuer: Option<RootDigest>,
}

impl Own {
    /// `remembered` are roots by which certificates may come in besides: those of a manager's state.
    ///
    /// # Errors
    /// When certificate and key do not belong together.
    pub(crate) fn of(membership: &Membership, remembered: &[Vec<u8>], clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let certificate = CertificateDer::from(membership.certificate.clone());
        let trusted: Vec<_> = membership.roots.iter().cloned().map(CertificateDer::from).collect();
        let roots = Self::accepted(&membership.roots, remembered);
        let validity = Validity::of(&certificate)?;
        let key = NodeKey::from_pkcs8(&membership.key)?;
        let (fingerprint, issuer) = (Fingerprint::of(&certificate), tls::issuer(&certificate, &[], &roots));
        // What leads here from old roots comes first, from the newest on: it is looked through in this order. Who has a token
        // alone finds the root itself further on.
        let credentials = Credentials { certificate, key, chain: trusted.iter().rev().cloned().collect() };
        Ok(Self {
            cluster: membership.cluster,
            node: membership.node,
            role: if membership.manager { NodeRole::Manager } else { NodeRole::Worker },
            client: tls::client_config(&credentials, &trusted, Arc::clone(clock))?,
            server: tls::server_config(&credentials, &roots, Arc::clone(clock))?,
            validity,
            roots,
            fingerprint,
            issuer,
        })
    }

    /// The roots by which certificates of others may come in, the newest first.
    pub(crate) fn accepted(trusted: &[Vec<u8>], remembered: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
        let besides = remembered.iter().filter(|root| !trusted.contains(root));
        trusted.iter().chain(besides).cloned().map(CertificateDer::from).collect()
    }

    /// Whether the certificate is of the root that makes certificates at present.
    pub(crate) fn is_of_newest(&self) -> bool {
        self.roots.first().map(RootDigest::of) == self.issuer
    }

    /// This node, as a caller within its own process.
    pub(crate) fn caller(&self) -> Caller {
        let nobody = RootDigest::from_bytes([0; 32]);
        let shown = Shown {
            fingerprint: self.fingerprint,
            issuer: self.issuer.unwrap_or(nobody),
            not_after: self.validity.not_after,
            is_ahead: false,
        };
        Caller::Node { id: self.node, role: self.role, shown, expired: false }
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
