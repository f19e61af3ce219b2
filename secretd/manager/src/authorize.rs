//! Who may make which call. Pure: the whole table is here, and a test goes through all of it.
//!
//! A certificate says who somebody is; the state of the cluster says whether that still counts. A removed node is refused
//! at once, whatever its certificate says.

use secretd_ca::{NodeRole, OperatorRole};
use secretd_proto::code::Code;
use secretd_store::View;

use crate::caller::Caller;
use crate::refusal::Refusal;

/// Calls that change nothing and show no output of containers.
const METADATA: [&str; 11] = [
    "GetCluster",
    "GetSealingKey",
    "GetSecret",
    "ListSecrets",
    "GetService",
    "ListServices",
    "WatchService",
    "GetTask",
    "ListTasks",
    "GetNode",
    "ListNodes",
];

/// Refuses a call that its caller may not make. `path` is the HTTP path of a gRPC call: `/package.Service/Method`.
///
/// # Errors
/// With the reason, in one line.
pub(crate) fn authorize(path: &str, caller: &Caller, view: &View) -> Result<(), Refusal> {
    let (service, method) = split(path);
    if matches!(caller, Caller::Node { expired: true, .. } | Caller::Operator { expired: true, .. })
        && (service, method) != ("Admission", "Renew")
    {
        return Err(denied("its certificate has expired", caller));
    }
    match (service, caller) {
        ("Admission", Caller::Anonymous) if method == "Admit" => Ok(()),
        ("Admission", Caller::Node { .. }) if method == "Renew" => is_member(caller, view),
        ("Control", Caller::Local { .. } | Caller::Operator { role: OperatorRole::Admin, .. }) => Ok(()),
        ("Control", Caller::Operator { role: OperatorRole::Viewer, .. }) if METADATA.contains(&method) => Ok(()),
        ("Control", Caller::Operator { role: OperatorRole::Viewer, .. }) => {
            Err(denied("it may read metadata alone", caller))
        }
        ("Dispatcher", Caller::Node { .. }) => is_member(caller, view),
        ("Raft", Caller::Node { role: NodeRole::Manager, .. }) => is_manager(caller, view),
        _ => Err(denied(&format!("it may not call {service}"), caller)),
    }
}

fn split(path: &str) -> (&str, &str) {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    (service.rsplit('.').next().unwrap_or(service), method)
}

fn denied(why: &str, caller: &Caller) -> Refusal {
    Refusal::new(Code::PermissionDenied, format!("{caller} is refused: {why}"))
}

fn is_member(caller: &Caller, view: &View) -> Result<(), Refusal> {
    if let Caller::Node { id, .. } = caller
        && view.node(id).is_some()
    {
        return Ok(());
    }
    let message = format!("{caller} is refused: it is no node of this cluster (any more)");
    Err(Refusal::new(Code::NodeRemoved, message))
}

/// A manager that has no state yet believes the certificate: it is about to be given the state.
fn is_manager(caller: &Caller, view: &View) -> Result<(), Refusal> {
    let Caller::Node { id, .. } = caller else { return is_member(caller, view) };
    match view.node(id) {
        Some(node) if node.manager => Ok(()),
        Some(_) => Err(denied("it is no manager (any more)", caller)),
        None if view.cluster().is_none() => Ok(()),
        None => is_member(caller, view),
    }
}
