//! The cluster's record, with the keys that only managers have.

use std::mem::take;
use std::sync::Arc;

use secretd_core::time::Timestamp;
use secretd_core::wire::{WireError, time_from_wire, time_to_wire};
use secretd_proto::v1;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::KeyBytes;
use zeroize::Zeroizing;

use super::op::parse;
use super::{required, unknown};
use crate::cluster::{ClusterKeys, ClusterRecord, JoinSecret, Operator};
use crate::failure::StorageFailure;

pub(super) fn to_stored(record: &ClusterRecord) -> v1::StoredCluster {
    let keys = &record.keys;
    v1::StoredCluster {
        cluster: Some((*record.cluster).clone().into()),
        sealing_key: keys.sealing.expose_bytes().to_vec(),
        authority_key: keys.authority.expose().to_vec(),
        worker: Some(join_secret(&keys.worker)),
        manager: Some(join_secret(&keys.manager)),
        unlock_key: keys.unlock.as_ref().map(|key| key.expose().to_vec()).unwrap_or_default(),
        unlock_key_version: keys.unlock_version,
        operators: record.operators.iter().map(operator).collect(),
        former_managers: record.former_managers.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn from_stored(mut stored: v1::StoredCluster) -> Result<ClusterRecord, StorageFailure> {
    let key = |bytes: &mut Vec<u8>| Arc::new(KeyBytes::new(take(bytes)));
    Ok(ClusterRecord {
        cluster: Arc::new(required("cluster", stored.cluster.take())?.try_into().map_err(unknown)?),
        keys: ClusterKeys {
            sealing: Arc::new(private_key(take(&mut stored.sealing_key))?),
            authority: key(&mut stored.authority_key),
            worker: join_secret_back(required("worker", stored.worker.take())?),
            manager: join_secret_back(required("manager", stored.manager.take())?),
            unlock: (!stored.unlock_key.is_empty()).then(|| key(&mut stored.unlock_key)),
            unlock_version: stored.unlock_key_version,
        },
        operators: take(&mut stored.operators).into_iter().map(operator_back).collect::<Result<_, _>>()?,
        former_managers: stored.former_managers.iter().map(|id| parse("id", id)).collect::<Result<_, _>>()?,
    })
}

pub(super) fn operator(operator: &Operator) -> v1::Operator {
    operator.clone().into()
}

impl From<Operator> for v1::Operator {
    fn from(operator: Operator) -> Self {
        Self {
            name: operator.name,
            admin: operator.admin,
            serial: operator.serial,
            fingerprint: operator.fingerprint.to_vec(),
            issuer: operator.issuer.to_vec(),
            issued_at: Some(time_to_wire(operator.issued_at)),
            expires_at: Some(time_to_wire(operator.expires_at)),
            revoked_at: operator.revoked_at.map(time_to_wire),
        }
    }
}

pub(super) fn operator_back(stored: v1::Operator) -> Result<Operator, StorageFailure> {
    let digest =
        |field, bytes: Vec<u8>| bytes.try_into().map_err(|_| unknown(WireError::new(field, "must have 32 bytes")));
    Ok(Operator {
        name: stored.name,
        admin: stored.admin,
        serial: stored.serial,
        fingerprint: digest("fingerprint", stored.fingerprint)?,
        issuer: digest("issuer", stored.issuer)?,
        issued_at: time_from_wire(stored.issued_at),
        expires_at: time_from_wire(stored.expires_at),
        revoked_at: stored.revoked_at.map(|at| time_from_wire(Some(at))),
    })
}

fn join_secret(token: &JoinSecret) -> v1::StoredJoinSecret {
    v1::StoredJoinSecret {
        secret: token.secret.expose().to_vec(),
        expires_at_unix_nanos: token.expires_at.map_or(0, |at| at.0),
        uses: token.uses_left.map(|left| v1::StoredUses { left }),
    }
}

fn join_secret_back(mut stored: v1::StoredJoinSecret) -> JoinSecret {
    JoinSecret {
        secret: Arc::new(KeyBytes::new(take(&mut stored.secret))),
        expires_at: (stored.expires_at_unix_nanos != 0).then_some(Timestamp(stored.expires_at_unix_nanos)),
        uses_left: stored.uses.take().map(|uses| uses.left),
    }
}

fn private_key(bytes: Vec<u8>) -> Result<PrivateKey, StorageFailure> {
    let bytes = Zeroizing::new(bytes);
    let array: &[u8; 32] =
        bytes.as_slice().try_into().map_err(|_| unknown(WireError::new("sealing_key", "has not 32 bytes")))?;
    Ok(PrivateKey::from_bytes(array))
}
