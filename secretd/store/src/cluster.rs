//! What only managers know of the cluster: its keys and join secrets, sealed at rest like every record.

use std::sync::Arc;

use secretd_core::node::{Cluster, ClusterSpec};
use secretd_core::time::{Meta, Timestamp};
use secretd_proto::id::{ClusterId, NodeId};
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::KeyBytes;

/// The cluster's record, with the keys that only the store keeps.
#[derive(Debug, Clone)]
pub struct ClusterRecord {
    /// What anybody may know.
    pub cluster: Arc<Cluster>,
    /// What managers alone may.
    pub keys: ClusterKeys,
    /// The certificates of operators that were made, expired and revoked ones too. A certificate that is not among them does
    /// not count, whoever has signed it.
    pub operators: Vec<Operator>,
    /// Nodes that were managers, oldest first, 1,024 at most. Their certificates may say so for a while: a
    /// manager that has never heard of a node must be able to tell a new one from one that was removed.
    pub former_managers: Vec<NodeId>,
}

/// So many former managers are remembered: more than are demoted while a certificate lives.
pub(crate) const FORMER_MANAGERS: usize = 1024;

/// A certificate that was made for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who it is for.
    pub name: String,
    /// Whether it allows everything, or to read metadata alone.
    pub admin: bool,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the root certificate that has made it.
    pub issuer: [u8; 32],
    /// Since when it counts.
    pub issued_at: Timestamp,
    /// Up to when.
    pub expires_at: Timestamp,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

impl ClusterRecord {
    /// A cluster that is to be founded: `roots` and `authority` are its authority's certificate and key, the join secrets
    /// count for ever.
    pub fn new(id: ClusterId, spec: ClusterSpec, founding: Founding) -> Self {
        let Founding { sealing, root, authority, worker, manager } = founding;
        let cluster = Cluster {
            id,
            meta: Meta::default(),
            sealing_key: sealing.public().to_bytes(),
            spec,
            roots: vec![root],
            rotation: None,
            retired: Vec::new(),
            epoch: 0,
        };
        let join = |secret| JoinSecret { secret: Arc::new(secret), expires_at: None, uses_left: None };
        let keys = ClusterKeys {
            sealing: Arc::new(sealing),
            authority: Arc::new(authority),
            worker: join(worker),
            manager: join(manager),
            unlock: None,
            unlock_version: 0,
        };
        Self { cluster: Arc::new(cluster), keys, operators: Vec::new(), former_managers: Vec::new() }
    }

    /// The same cluster, of which nodes forget how far it had come: it goes back on purpose, at `now`. Two restores of one
    /// backup are two epochs.
    #[must_use]
    pub fn in_new_epoch(&self, now: Timestamp) -> Self {
        let milliseconds = u64::try_from(now.0 / 1_000_000).unwrap_or_default();
        let epoch = milliseconds.max(self.cluster.epoch + 1);
        Self { cluster: Arc::new(Cluster { epoch, ..Cluster::clone(&self.cluster) }), ..self.clone() }
    }
}

/// The keys that a cluster begins with.
#[derive(Debug)]
pub struct Founding {
    /// Opens what clients seal.
    pub sealing: PrivateKey,
    /// The authority's certificate (X.509, DER).
    pub root: Vec<u8>,
    /// The authority's key (PKCS #8).
    pub authority: KeyBytes,
    /// Of workers' join tokens.
    pub worker: KeyBytes,
    /// Of managers' join tokens.
    pub manager: KeyBytes,
}

/// The cluster's keys. Cloning shares them.
#[derive(Debug, Clone)]
pub struct ClusterKeys {
    /// Opens what clients seal to the cluster.
    pub sealing: Arc<PrivateKey>,
    /// Makes certificates: the key of the first root certificate, in PKCS #8.
    pub authority: Arc<KeyBytes>,
    /// Lets a node join as a worker.
    pub worker: JoinSecret,
    /// Lets a node join as a manager.
    pub manager: JoinSecret,
    /// Opens the data of managers that have been started, where autolock is on.
    pub unlock: Option<Arc<KeyBytes>>,
    /// Counts unlock keys, so that a manager knows whether it has the newest.
    pub unlock_version: u64,
}

/// The secret part of a join token, and how long it counts.
#[derive(Debug, Clone)]
pub struct JoinSecret {
    /// What a node has to show.
    pub secret: Arc<KeyBytes>,
    /// Not after this; for ever without.
    pub expires_at: Option<Timestamp>,
    /// So many nodes more; any number without.
    pub uses_left: Option<u32>,
}

impl JoinSecret {
    /// Whether a node may still join with it.
    pub fn counts(&self, now: Timestamp) -> Result<(), JoinSecretRefusal> {
        if self.expires_at.is_some_and(|at| at < now) {
            return Err(JoinSecretRefusal::Expired);
        }
        if self.uses_left == Some(0) {
            return Err(JoinSecretRefusal::UsedUp);
        }
        Ok(())
    }
}

/// Why a join secret does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinSecretRefusal {
    /// It is another one now, or never was one.
    #[error("it is not valid: ask for the present one with `sctl cluster join-token`")]
    Unknown,
    /// Its time is over.
    #[error("it has expired: ask for a new one with `sctl cluster join-token --rotate`")]
    Expired,
    /// So many nodes as it was for have joined.
    #[error("it has been used as often as it may: ask for a new one with `sctl cluster join-token --rotate`")]
    UsedUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_decides_for_a_token_only_while_it_is_wrong() {
        const HOUR: i64 = 3_600_000_000_000;
        let (made, year) = (Timestamp(1_800_000_000_000_000_000), 365 * 24 * HOUR);
        let secret = Arc::new(KeyBytes::new(vec![1; 16]));
        let brief = JoinSecret { secret, expires_at: Some(Timestamp(made.0 + HOUR)), uses_left: None };
        let forever = JoinSecret { expires_at: None, ..brief.clone() };
        for (jump, counts) in [
            (0, true),
            (HOUR, true),
            (HOUR + 1, false),
            (10 * year, false),
            (-10 * year, true),
            (i64::MIN / 2, true),
            (0, true),
        ] {
            let now = Timestamp(made.0 + jump);
            assert_eq!(brief.counts(now).is_ok(), counts, "{jump}");
            assert!(forever.counts(now).is_ok(), "{jump}");
        }
    }
}
