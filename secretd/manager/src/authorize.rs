//! Who may make which call. Pure: the whole table is here, and a test goes through all of it.
//!
//! A certificate says who somebody is; the state of the cluster says whether that still counts. A removed node is refused
//! at once, whatever its certificate says.

use secretd_ca::{NodeRole, OperatorRole};
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_store::View;

use crate::caller::Caller;
use crate::refusal::Refusal;

/// Calls that change nothing and show no output of containers.
pub(crate) const METADATA: [&str; 11] = [
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

/// Refuses a call that its caller may not make. `takes_part` tells who is a member of raft; `path` is the HTTP path of a gRPC call: `/package.Service/Method`.
///
/// # Errors
/// With the reason, in one line.
pub(crate) fn authorize(
    path: &str,
    caller: &Caller,
    view: &View,
    takes_part: impl Fn(&NodeId) -> bool,
) -> Result<(), Refusal> {
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
        ("Raft", Caller::Node { role: NodeRole::Manager, id, .. }) if takes_part(id) => Ok(()),
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

/// A demoted manager has its say in raft until the others do without it: who is a member, raft decides, and a state that
/// runs ahead of that must not keep a leader from being elected. A manager that has no state yet believes the certificate: it is about to be given the state.
fn is_manager(caller: &Caller, view: &View) -> Result<(), Refusal> {
    let Caller::Node { id, .. } = caller else { return is_member(caller, view) };
    match view.node(id) {
        Some(node) if node.manager => Ok(()),
        Some(_) => Err(denied("it is no manager (any more)", caller)),
        None if view.cluster().is_none() => Ok(()),
        None => is_member(caller, view),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::Arc;

    use expect_test::expect_file;
    use secretd_ca::Authority;
    use secretd_core::fake::clock::FakeClock;
    use secretd_core::node::{Availability, ClusterSpec, NodeDescription};
    use secretd_core::seam::clock::Clock;
    use secretd_proto::id::ClusterId;
    use secretd_store::{Op, Store};

    use super::*;
    use crate::found::{Founder, found, new_node};

    /// Every call that there is, as the .proto files say.
    fn calls() -> Vec<(String, String)> {
        let files = [
            include_str!("../../../proto/proto/secretd/v1/admission.proto"),
            include_str!("../../../proto/proto/secretd/v1/control.proto"),
            include_str!("../../../proto/proto/secretd/v1/dispatcher.proto"),
            include_str!("../../../proto/proto/secretd/v1/raft.proto"),
        ];
        let mut calls = Vec::new();
        for file in files {
            let mut service = String::new();
            for line in file.lines() {
                let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
                match (words.next(), words.next()) {
                    (Some("service"), Some(name)) => service = name.to_owned(),
                    (Some("rpc"), Some(name)) => calls.push((service.clone(), name.to_owned())),
                    _ => {}
                }
            }
        }
        calls
    }

    /// A cluster of a manager (1), a worker (2), and a worker that was a manager a moment ago (4).
    async fn view() -> View {
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::default());
        let store = Store::in_memory(Arc::clone(&clock)).await;
        let cluster = ClusterId::from_random([1; 16]);
        let founder = Founder {
            node: id(1),
            address: String::new(),
            description: NodeDescription::default(),
            availability: Availability::Active,
        };
        let authority = Authority::generate(cluster, clock.now()).unwrap();
        found(&store, cluster, &authority, ClusterSpec::default(), founder).await.unwrap();
        let worker = new_node(id(2), String::new(), NodeDescription::default(), Availability::Active, false);
        let demoted = new_node(id(4), String::new(), NodeDescription::default(), Availability::Active, false);
        store.propose(vec![Op::PutNode { node: worker }, Op::PutNode { node: demoted }]).await.unwrap();
        store.view()
    }

    fn takes_part(node: &NodeId) -> bool {
        [id(1), id(4)].contains(node)
    }

    fn id(n: u8) -> NodeId {
        NodeId::from_random([n; 16])
    }

    #[tokio::test]
    async fn every_caller_may_make_the_calls_of_the_table_and_no_other() {
        use NodeRole::{Manager, Worker};
        use OperatorRole::{Admin, Viewer};
        let node = |n, role, expired| Caller::Node { id: id(n), role, expired };
        let operator = |role, expired| Caller::Operator { name: "mia".to_owned(), role, expired };
        let callers = [
            ("local", Caller::Local { uid: 0, pid: None }),
            ("manager", node(1, Manager, false)),
            ("manager, expired", node(1, Manager, true)),
            ("worker", node(2, Worker, false)),
            ("worker, expired", node(2, Worker, true)),
            ("worker that was a manager", node(2, Manager, false)),
            ("demoted manager, member of raft still", node(4, Manager, false)),
            ("removed node", node(3, Worker, false)),
            ("removed manager", node(3, Manager, false)),
            ("removed node, expired", node(3, Worker, true)),
            ("admin", operator(Admin, false)),
            ("admin, expired", operator(Admin, true)),
            ("viewer", operator(Viewer, false)),
            ("viewer, expired", operator(Viewer, true)),
            ("nobody", Caller::Anonymous),
        ];
        let view = view().await;
        let mut table = String::new();
        for (service, method) in calls() {
            let path = format!("/secretd.v1.{service}/{method}");
            let may = callers.iter().filter(|(_, caller)| authorize(&path, caller, &view, takes_part).is_ok());
            let may: Vec<&str> = may.map(|(name, _)| *name).collect();
            writeln!(table, "{service}.{method}: {}", may.join("; ")).unwrap();
        }
        expect_file!["authorize/table.txt"].assert_eq(&table);
    }

    #[tokio::test]
    async fn calls_that_do_not_exist_are_nobodys_but_the_services() {
        let view = view().await;
        let node = Caller::Node { id: id(1), role: NodeRole::Manager, expired: false };
        for path in ["", "/", "/secretd.v1.Local/InitCluster", "/other/Get", "/secretd.v1.Images/List"] {
            assert!(authorize(path, &node, &view, takes_part).is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn removed_node_is_told_so() {
        let view = view().await;
        let gone = Caller::Node { id: id(3), role: NodeRole::Worker, expired: false };
        let refusal = authorize("/secretd.v1.Dispatcher/Session", &gone, &view, takes_part).unwrap_err();
        assert_eq!(refusal.code, Code::NodeRemoved);
    }
}
