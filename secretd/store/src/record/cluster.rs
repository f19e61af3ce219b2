//! The cluster's record, with the keys that only managers have.

use std::sync::Arc;

use secretd_core::time::Timestamp;
use secretd_core::wire::WireError;
use secretd_proto::v1;
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::KeyBytes;
use zeroize::Zeroizing;

use super::{required, unknown};
use crate::cluster::{ClusterKeys, ClusterRecord, JoinSecret};
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
    }
}

pub(super) fn from_stored(stored: v1::StoredCluster) -> Result<ClusterRecord, StorageFailure> {
    let key = |bytes: Vec<u8>| Arc::new(KeyBytes::new(bytes));
    Ok(ClusterRecord {
        cluster: Arc::new(required("cluster", stored.cluster)?.try_into().map_err(unknown)?),
        keys: ClusterKeys {
            sealing: Arc::new(private_key(stored.sealing_key)?),
            authority: key(stored.authority_key),
            worker: join_secret_back(required("worker", stored.worker)?),
            manager: join_secret_back(required("manager", stored.manager)?),
            unlock: (!stored.unlock_key.is_empty()).then(|| key(stored.unlock_key)),
            unlock_version: stored.unlock_key_version,
        },
    })
}

fn join_secret(token: &JoinSecret) -> v1::StoredJoinSecret {
    v1::StoredJoinSecret {
        secret: token.secret.expose().to_vec(),
        expires_at_unix_nanos: token.expires_at.map_or(0, |at| at.0),
        uses: token.uses_left.map(|left| v1::StoredUses { left }),
    }
}

fn join_secret_back(stored: v1::StoredJoinSecret) -> JoinSecret {
    JoinSecret {
        secret: Arc::new(KeyBytes::new(stored.secret)),
        expires_at: (stored.expires_at_unix_nanos != 0).then_some(Timestamp(stored.expires_at_unix_nanos)),
        uses_left: stored.uses.map(|uses| uses.left),
    }
}

fn private_key(bytes: Vec<u8>) -> Result<PrivateKey, StorageFailure> {
    let bytes = Zeroizing::new(bytes);
    let array: &[u8; 32] =
        bytes.as_slice().try_into().map_err(|_| unknown(WireError::new("sealing_key", "has not 32 bytes")))?;
    Ok(PrivateKey::from_bytes(array))
}
