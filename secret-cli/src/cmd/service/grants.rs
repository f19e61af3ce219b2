//! Secrets that a service asks for by name, as grants with ids.

use secretd_proto::code::Code;
use secretd_proto::v1::{GetSecretRequest, SecretGrant};

use crate::connection::Control;
use crate::failure::Failure;
use crate::parse::secret::SecretRequest;

/// Resolves the names; every one that is not there is named.
pub(super) async fn resolve(control: &mut Control, requests: &[SecretRequest]) -> Result<Vec<SecretGrant>, Failure> {
    let mut grants: Vec<SecretGrant> = Vec::new();
    let mut missing = Vec::new();
    for request in requests {
        let reference = request.source.clone();
        match control.get_secret(GetSecretRequest { reference }).await.map_err(Failure::from) {
            Ok(found) => {
                let secret = found.into_inner().secret.unwrap_or_default();
                grants.push(grant(request, secret.id, secret.spec.unwrap_or_default().name));
            }
            Err(failure) if failure.code == Code::NotFound.as_str() => missing.push(request.source.as_str()),
            Err(failure) => return Err(failure),
        }
    }
    match missing.as_slice() {
        [] => check_targets(&grants).map(|()| grants),
        [one] => Err(Failure::new(Code::NotFound, format!("secret not found: {one}"))),
        several => Err(Failure::new(Code::NotFound, format!("secrets not found: {}", several.join(", ")))),
    }
}

fn grant(request: &SecretRequest, secret_id: String, secret_name: String) -> SecretGrant {
    // A target that was not given is the secret's name, also when the secret was named by its id.
    let target = if request.target == request.source { secret_name.clone() } else { request.target.clone() };
    let SecretRequest { uid, gid, mode, .. } = *request;
    SecretGrant { secret_id, secret_name, target, uid, gid, mode, pinned_version: 0 }
}

fn check_targets(grants: &[SecretGrant]) -> Result<(), Failure> {
    for (idx, grant) in grants.iter().enumerate() {
        if let Some(other) = grants.iter().take(idx).find(|other| other.target == grant.target) {
            return Err(Failure::invalid(if other.secret_id == grant.secret_id {
                format!("duplicate secret target for {} not allowed: {}", grant.secret_name, grant.target)
            } else {
                format!(
                    "secrets '{}' and '{}' have a conflicting target: '{}'",
                    other.secret_name, grant.secret_name, grant.target
                )
            }));
        }
    }
    Ok(())
}
