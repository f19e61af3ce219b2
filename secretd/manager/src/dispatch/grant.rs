//! Wraps a payload's data key for one task on one node. The key is opened for the moment of this call; the payload
//! never is.

use secretd_core::secret::{SealedPayload, Secret};
use secretd_proto::id::{ClusterId, NodeId};
use secretd_sealing::binding::{GrantBinding, PayloadBinding};
use secretd_sealing::envelope::{RewrapError, rewrap};
use secretd_sealing::key::{PrivateKey, PublicKey};

use super::assignment_set::Grant;

/// What all grants of one node have in common.
#[derive(Debug)]
pub(crate) struct Granter<'a> {
    pub(crate) cluster: ClusterId,
    pub(crate) cluster_key: &'a PrivateKey,
    pub(crate) node: NodeId,
    pub(crate) node_key: &'a PublicKey,
}

impl Granter<'_> {
    /// The data key of `sealed`, wrapped to the node's secret-fs and bound to the grant.
    ///
    /// # Errors
    /// When the client's envelope does not open: it was made for another secret, version, name or length.
    pub(crate) fn wrap(
        &self,
        grant: &Grant,
        secret: &Secret,
        length: u32,
        sealed: &SealedPayload,
    ) -> Result<Vec<u8>, RewrapError> {
        let payload = PayloadBinding {
            cluster: self.cluster,
            secret: grant.payload.secret,
            version: grant.payload.version.0,
            name: secret.spec.name.clone(),
            length,
        };
        let binding = GrantBinding { payload, node: self.node, task: grant.task, epoch: grant.epoch };
        rewrap(&sealed.wrapped_dek, self.cluster_key, &binding, self.node_key)
    }
}
