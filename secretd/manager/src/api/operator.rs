//! Certificates for operators who use `sctl` from afar.

use std::time::Duration;

use secretd_ca::{Identity, OperatorRole, Subject};
use secretd_core::wire::duration_from_wire;
use secretd_proto::v1;

use super::Context;
use crate::admission::authority;
use crate::audit::record;
use crate::caller::Caller;
use crate::refusal::Refusal;

/// How long a certificate counts unless somebody says so.
const VALIDITY: Duration = Duration::from_hours(90 * 24);

pub(super) fn issue(
    context: &Context,
    caller: Option<Caller>,
    request: &v1::IssueOperatorRequest,
) -> Result<v1::IssueOperatorResponse, Refusal> {
    let view = context.view()?;
    let cluster = view.cluster_record().ok_or_else(Refusal::not_initialized)?;
    check_name(&request.name)?;
    let issued = || {
        let validity = duration_from_wire("validity", request.validity, VALIDITY)?;
        let role = if request.admin { OperatorRole::Admin } else { OperatorRole::Viewer };
        let identity = Identity::Operator { name: request.name.clone(), role };
        let subject = Subject { cluster: cluster.cluster.id, identity };
        authority(cluster)?.issue(&request.request, &subject, validity, context.now()).map_err(Refusal::invalid)
    };
    let action = if request.admin { "operator.issue.admin" } else { "operator.issue.viewer" };
    let certificate = record(caller, action, &request.name, issued())?;
    let members = context.store.replica().map(|replica| replica.members()).unwrap_or_default();
    Ok(v1::IssueOperatorResponse {
        certificate: certificate.to_vec(),
        roots: cluster.cluster.roots.clone(),
        managers: members.into_iter().map(|status| status.member.address).collect(),
    })
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let rule = "an operator's name has 1 to 64 characters out of a-z, A-Z, 0-9, -, _ and .";
    if good { Ok(()) } else { Err(Refusal::invalid(rule)) }
}
