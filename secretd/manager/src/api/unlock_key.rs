//! The key that opens a manager's data when it starts, where autolock is on.

use std::sync::Arc;

use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_sealing::secret::{Dek, KeyBytes};
use secretd_sealing::unlock_key::UnlockKey;
use secretd_store::{ClusterKeys, ClusterRecord, Op};

use super::Context;
use crate::audit::record;
use crate::caller::Caller;
use crate::refusal::Refusal;

pub(super) async fn get(
    context: &Context,
    caller: Option<Caller>,
    request: v1::GetUnlockKeyRequest,
) -> Result<v1::GetUnlockKeyResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster_record().cloned().ok_or_else(Refusal::not_initialized)?;
    let Some(known) = cluster.keys.unlock.clone().filter(|_| cluster.cluster.spec.autolock) else {
        return Err(Refusal::new(
            Code::NotRunning,
            match request.rotate {
                true => "cannot rotate because autolock is not turned on",
                false => "no unlock key is set: turn autolock on with `sctl cluster update --autolock`",
            },
        ));
    };
    if !request.rotate {
        return Ok(v1::GetUnlockKeyResponse { unlock_key: shown(&known) });
    }
    let (id, expect) = (cluster.cluster.id, cluster.cluster.meta.version);
    let outcome = async {
        let keys = switched(cluster.keys.clone(), true)?;
        let key = keys.unlock.clone().ok_or_else(|| Refusal::new(Code::Internal, "there is no key"))?;
        let new = ClusterRecord { keys, ..cluster };
        context.store.propose(vec![Op::UpdateCluster { expect, record: new }]).await?;
        Ok(key)
    };
    let key = record(caller, "unlock-key.rotate", id, outcome.await)?;
    Ok(v1::GetUnlockKeyResponse { unlock_key: shown(&key) })
}

/// The keys with a new unlock key, or with none.
pub(crate) fn switched(keys: ClusterKeys, on: bool) -> Result<ClusterKeys, Refusal> {
    let unlock = match on {
        true => {
            let key = Dek::generate().map_err(|error| Refusal::new(Code::Internal, error))?;
            Some(Arc::new(KeyBytes::new(key.expose().to_vec())))
        }
        false => None,
    };
    Ok(ClusterKeys { unlock, unlock_version: keys.unlock_version + 1, ..keys })
}

/// The key as operators keep it.
pub fn shown(key: &KeyBytes) -> String {
    UnlockKey::from_bytes(key.expose()).map(|key| key.expose_text()).unwrap_or_default()
}
