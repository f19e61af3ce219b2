//! Certificates for operators who use `sctl` from afar: made, listed, taken back.

use std::time::Duration;

use secretd_ca::fingerprint::serial;
use secretd_ca::identity::Validity;
use secretd_ca::{CertificateDer, Fingerprint, Identity, OperatorRole, Subject};
use secretd_core::time::Timestamp;
use secretd_core::wire::duration_from_wire;
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::operator_status::State;
use secretd_store::{ClusterRecord, Op, Operator};

use super::Context;
use crate::admission::authority;
use crate::audit::record;
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::rotation::digest;

/// How long a certificate counts unless somebody says so.
const VALIDITY: Duration = Duration::from_hours(90 * 24);
/// Fewer digits of a serial number are taken for a name that is not known.
const SHORTEST_SERIAL: usize = 6;

pub(super) async fn issue(
    context: &Context,
    caller: Option<Caller>,
    request: &v1::IssueOperatorRequest,
) -> Result<v1::IssueOperatorResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster_record().ok_or_else(Refusal::not_initialized)?;
    check_name(&request.name)?;
    let issued = async {
        let validity = duration_from_wire("validity", request.validity, VALIDITY)?;
        let role = if request.admin { OperatorRole::Admin } else { OperatorRole::Viewer };
        let identity = Identity::Operator { name: request.name.clone(), role };
        let subject = Subject { cluster: cluster.cluster.id, identity };
        let authority = authority(cluster)?;
        check_validity(validity, authority.expires_at().map_err(Refusal::invalid)?, context.now())?;
        let issued = authority.issue(&request.request, &subject, validity, context.now());
        let certificate = issued.map_err(Refusal::invalid)?;
        let operator = on_record(&certificate, request, *authority.digest().as_bytes(), context.now())?;
        // It is given out only when it is on record: it does not count otherwise.
        context.store.propose(vec![Op::PutOperator { operator }]).await?;
        Ok(certificate)
    };
    let action = if request.admin { "operator.issue.admin" } else { "operator.issue.viewer" };
    let certificate = record(caller, action, &request.name, issued.await)?;
    let members = context.store.replica().map(|replica| replica.members()).unwrap_or_default();
    Ok(v1::IssueOperatorResponse {
        certificate: certificate.to_vec(),
        roots: cluster.cluster.roots.clone(),
        managers: members.into_iter().map(|status| status.member.address).collect(),
    })
}

fn on_record(
    certificate: &CertificateDer<'_>,
    request: &v1::IssueOperatorRequest,
    issuer: [u8; 32],
    now: Timestamp,
) -> Result<Operator, Refusal> {
    let unusable = |error| Refusal::new(Code::Internal, error);
    Ok(Operator {
        name: request.name.clone(),
        admin: request.admin,
        serial: serial(certificate).map_err(unusable)?,
        fingerprint: *Fingerprint::of(certificate).as_bytes(),
        issuer,
        issued_at: now,
        expires_at: Validity::of(certificate).map_err(unusable)?.not_after,
        revoked_at: None,
    })
}

fn check_validity(validity: Duration, root: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if validity.is_zero() {
        return Err(Refusal::invalid("a certificate must count for some time (--expiry)"));
    }
    let left = Duration::from_nanos(u64::try_from(root.0.saturating_sub(now.0)).unwrap_or_default());
    if validity > left && !left.is_zero() {
        let hours = left.as_secs() / 3600;
        let message =
            format!("a certificate counts no longer than the cluster's root, which has {hours}h left (--expiry)");
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let rule = "an operator's name has 1 to 64 characters out of a-z, A-Z, 0-9, -, _ and .";
    if good { Ok(()) } else { Err(Refusal::invalid(rule)) }
}

pub(super) fn list(context: &Context) -> Result<v1::ListOperatorsResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster_record().ok_or_else(Refusal::not_initialized)?;
    let mut operators: Vec<&Operator> = cluster.operators.iter().collect();
    operators.sort_by(|a, b| (&a.name, a.issued_at).cmp(&(&b.name, b.issued_at)));
    let status = |operator: &Operator| v1::OperatorStatus {
        state: state(cluster, operator, context.now()).into(),
        operator: Some(operator.clone().into()),
    };
    Ok(v1::ListOperatorsResponse { operators: operators.into_iter().map(status).collect() })
}

/// Whether a certificate counts, and if not, why.
fn state(cluster: &ClusterRecord, operator: &Operator, now: Timestamp) -> State {
    let mut roots = cluster.cluster.roots.iter();
    match () {
        () if operator.revoked_at.is_some() => State::Revoked,
        () if operator.expires_at < now => State::Expired,
        () if !roots.any(|root| *digest(root).as_bytes() == operator.issuer) => State::Replaced,
        () => State::Valid,
    }
}

pub(super) async fn remove(
    context: &Context,
    caller: Option<Caller>,
    request: &v1::RemoveOperatorRequest,
) -> Result<v1::RemoveOperatorResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster_record().ok_or_else(Refusal::not_initialized)?;
    let outcome = async {
        let chosen = meant(&cluster.operators, &request.reference)?;
        let serials = chosen.iter().map(|operator| operator.serial.clone()).collect();
        context.store.propose(vec![Op::RevokeOperators { serials }]).await?;
        Ok(chosen)
    };
    // What is no name or serial number may be anything: it has no place in the journal.
    let named = check_name(&request.reference).map_or("?", |()| &request.reference);
    let chosen = record(caller, "operator.revoke", named, outcome.await)?;
    Ok(v1::RemoveOperatorResponse { operators: chosen.into_iter().map(Into::into).collect() })
}

/// The certificates that a name or a serial number means, and that were not taken back yet. A name comes first.
fn meant(operators: &[Operator], reference: &str) -> Result<Vec<Operator>, Refusal> {
    let named: Vec<&Operator> = operators.iter().filter(|operator| operator.name == reference).collect();
    let serial = reference.to_ascii_lowercase();
    let found = match named.is_empty() {
        false => named,
        true if serial.len() < SHORTEST_SERIAL => Vec::new(),
        true => operators.iter().filter(|operator| operator.serial.starts_with(&serial)).collect(),
    };
    let is_name = found.first().is_some_and(|operator| operator.name == reference);
    match found.as_slice() {
        [] => Err(Refusal::new(Code::NotFound, format!("operator {reference} not found"))),
        [_, _, ..] if !is_name => {
            let message = format!("serial number {reference} is ambiguous: give more digits");
            Err(Refusal::new(Code::Ambiguous, message))
        }
        found => {
            let left: Vec<Operator> = found
                .iter()
                .filter(|operator| operator.revoked_at.is_none())
                .map(|&operator| operator.clone())
                .collect();
            let message = format!("operator {reference} has no certificate that was not taken back already");
            if left.is_empty() { Err(Refusal::new(Code::NotFound, message)) } else { Ok(left) }
        }
    }
}
