//! Secrets: metadata and sealed payloads go in, metadata alone comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::secret::{SealedPayload, Secret, SecretSpec, SecretVersion};
use secretd_core::service::Service;
use secretd_core::time::Version;
use secretd_proto::id::SecretId;
use secretd_proto::limit::MAX_SECRET_LENGTH;
use secretd_proto::v1;
use secretd_store::{Conflict, Op, ProposeError, View};

use super::Context;
use super::services::begun;
use crate::audit::record;
use crate::caller::Caller;
use crate::filter::Filters;
use crate::natural;
use crate::reference::{Kind, resolve};
use crate::refusal::Refusal;
use crate::validate::payload;

pub(super) async fn create_secret(
    context: &Context,
    peer: Option<Caller>,
    request: v1::CreateSecretRequest,
) -> Result<v1::CreateSecretResponse, Refusal> {
    context.view()?;
    let id = parse_id(&request.id)?;
    let outcome = async {
        let spec = request.spec.ok_or_else(|| Refusal::invalid("the secret has no specification"))?;
        let spec = SecretSpec::try_from(spec)?;
        let payload = checked(request.length, request.payload)?;
        let op = Op::CreateSecret { id, spec, length: request.length, payload: payload.into() };
        context.store.propose(vec![op]).await.map_err(Refusal::from)
    };
    record(peer, "secret.create", id, outcome.await)?;
    Ok(v1::CreateSecretResponse { secret: to_wire(&context.store.view(), id) })
}

pub(super) async fn update_secret(
    context: &Context,
    peer: Option<Caller>,
    request: v1::UpdateSecretRequest,
) -> Result<v1::UpdateSecretResponse, Refusal> {
    let view = context.view()?;
    let secret = find(&view, &request.id)?;
    let id = secret.id;
    let outcome = async {
        let (expect, payload) = next_version(secret, &request)?;
        let labels = labels(secret, &request);
        if payload.is_none() && labels.is_none() {
            return Err(Refusal::invalid("nothing to update: give new data or labels"));
        }
        let payload = payload.map(|payload| (request.length, payload.into()));
        context.store.propose(vec![Op::UpdateSecret { id, expect, labels, payload }]).await.map_err(Refusal::from)
    };
    record(peer, "secret.update", id, outcome.await)?;
    Ok(v1::UpdateSecretResponse { secret: to_wire(&context.store.view(), id) })
}

/// The version that the change is made from, and the payload of the next one.
fn next_version(
    secret: &Secret,
    request: &v1::UpdateSecretRequest,
) -> Result<(SecretVersion, Option<SealedPayload>), Refusal> {
    if request.payload.is_none() {
        return Ok((secret.version, None));
    }
    let expect = request.secret_version.checked_sub(1).filter(|expect| *expect > 0);
    let expect = expect.ok_or_else(|| Refusal::invalid("the new version of a secret is at least 2"))?;
    Ok((SecretVersion(expect), Some(checked(request.length, request.payload.clone())?)))
}

/// The labels after the update, when it is about labels.
fn labels(secret: &Secret, request: &v1::UpdateSecretRequest) -> Option<BTreeMap<String, String>> {
    let given = request.labels.clone().into_iter();
    if request.replace_labels {
        return Some(given.collect());
    }
    (!request.labels.is_empty()).then(|| secret.spec.labels.clone().into_iter().chain(given).collect())
}

pub(super) fn get_secret(context: &Context, request: &v1::GetSecretRequest) -> Result<v1::GetSecretResponse, Refusal> {
    let view = context.view()?;
    let secret = find(&view, &request.reference)?;
    let used_by = view.services_using(&secret.id).iter().map(ToString::to_string).collect();
    Ok(v1::GetSecretResponse { secret: Some(Secret::clone(secret).into()), used_by })
}

pub(super) fn list_secrets(
    context: &Context,
    request: v1::ListSecretsRequest,
) -> Result<v1::ListSecretsResponse, Refusal> {
    let view = context.view()?;
    let filters = Filters::parse(request.filters, &["id", "name", "names", "label"])?;
    let chosen = view.secrets().filter(|secret| {
        filters.prefix("id", &secret.id.to_string())
            && filters.prefix("name", secret.spec.name.as_str())
            && filters.exact("names", secret.spec.name.as_str())
            && filters.labels("label", &secret.spec.labels)
    });
    let mut secrets: Vec<&Arc<Secret>> = chosen.collect();
    secrets.sort_by(|a, b| natural::compare(a.spec.name.as_str(), b.spec.name.as_str()));
    Ok(v1::ListSecretsResponse { secrets: secrets.into_iter().map(|secret| Secret::clone(secret).into()).collect() })
}

pub(super) async fn remove_secret(
    context: &Context,
    peer: Option<Caller>,
    request: v1::RemoveSecretRequest,
) -> Result<v1::RemoveSecretResponse, Refusal> {
    let id = find(&context.view()?, &request.reference)?.id;
    let (action, outcome) = if request.force {
        ("secret.revoke", revoke(context, id).await)
    } else {
        ("secret.remove", context.store.propose(vec![Op::RemoveSecret { id }]).await)
    };
    record(peer, action, id, outcome.map_err(Refusal::from))?;
    Ok(v1::RemoveSecretResponse { id: id.to_string() })
}

/// How often a removal is made anew because a service was changed meanwhile.
const REVOKE_ATTEMPTS: usize = 8;

/// Removes the secret and every grant of it, at once or not at all. Running tasks lose it when their nodes hear of it.
async fn revoke(context: &Context, id: SecretId) -> Result<Version, ProposeError> {
    let mut attempt = 1;
    loop {
        let view = context.store.view();
        let mut ops: Vec<Op> = view.services().filter_map(|service| without_grants(context, service, id)).collect();
        ops.push(Op::RemoveSecret { id });
        match context.store.propose(ops).await {
            Err(ProposeError::Conflict(Conflict::OutOfSequence { .. } | Conflict::SecretInUse { .. }))
                if attempt < REVOKE_ATTEMPTS =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// The update that takes a secret's grants from a service, when it has any.
fn without_grants(context: &Context, service: &Service, secret: SecretId) -> Option<Op> {
    let mut spec = service.spec.clone();
    spec.task.container.secrets.retain(|grant| grant.secret != secret);
    (spec != service.spec).then(|| Op::UpdateService {
        id: service.id,
        expect: service.meta.version,
        spec,
        previous_spec: Some(service.spec.clone()),
        update_status: Some(begun(context)),
    })
}

fn find<'a>(view: &'a View, reference: &str) -> Result<&'a Arc<Secret>, Refusal> {
    let candidates = view.secrets().map(|secret| (secret.id, secret.spec.name.as_str(), secret));
    resolve(Kind::Secret, reference, candidates)
}

fn parse_id(text: &str) -> Result<SecretId, Refusal> {
    text.parse().map_err(|error| Refusal::invalid(format!("field `id`: {error}")))
}

fn checked(length: u32, payload: Option<v1::SealedPayload>) -> Result<SealedPayload, Refusal> {
    let missing = || {
        Refusal::invalid(format!(
            "secret data is missing: it must have at least 1 and at most {MAX_SECRET_LENGTH} bytes"
        ))
    };
    let payload = SealedPayload::from(payload.ok_or_else(missing)?);
    payload::check(length, &payload).map_err(Refusal::invalid)?;
    Ok(payload)
}

fn to_wire(view: &View, id: SecretId) -> Option<v1::Secret> {
    view.secret(&id).map(|secret| Secret::clone(secret).into())
}
