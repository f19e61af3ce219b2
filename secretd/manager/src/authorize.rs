//! Who may make which call. Pure: the whole table is here, and a test goes through all of it.
//!
//! A certificate says who somebody is; the state of the cluster says whether that still counts. A removed node and an
//! operator whose certificate was taken back are refused at once, whatever their certificates say. A certificate of a root
//! that was replaced is good for one thing: a node that has been away has it renewed, when it is the very one that the
//! cluster knows the node by. Who has a stolen root's key cannot have that.

use secretd_ca::{CertificateDer, NodeRole, OperatorRole, RootDigest};
use secretd_proto::code::Code;
use secretd_proto::id::NodeId;
use secretd_store::View;

use crate::caller::{Caller, Shown};
use crate::refusal::Refusal;

/// Calls that change nothing and show no output of containers.
pub(crate) const METADATA: [&str; 14] = [
    "GetCluster",
    "GetAuthority",
    "WatchAuthority",
    "ListOperators",
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
    // A manager that is behind has its state from one whose root it does not know by that state.
    let brings_state = service == "Raft" && matches!(caller, Caller::Node { shown, .. } if shown.is_ahead);
    if !brings_state {
        counts(caller, view, (service, method) == ("Admission", "Renew"))?;
    }
    match (service, caller) {
        ("Admission", Caller::Anonymous { .. }) if method == "Admit" => Ok(()),
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

/// Refuses certificates that the cluster does not let count, or not any more. A manager that has no state yet believes
/// those of its roots: it is about to be given the state.
pub(crate) fn counts(caller: &Caller, view: &View, renews: bool) -> Result<(), Refusal> {
    let Some(record) = view.cluster_record() else { return Ok(()) };
    let is_of_present_root = |shown: &Shown| {
        let roots = record.cluster.roots.iter();
        roots.map(|root| RootDigest::of(&CertificateDer::from(root.as_slice()))).any(|root| root == shown.issuer)
    };
    match caller {
        Caller::Local { .. } | Caller::Anonymous { .. } => Ok(()),
        Caller::Node { shown, .. } if is_of_present_root(shown) => Ok(()),
        Caller::Node { id, shown, .. } if renews => {
            let known = view.node(id).and_then(|node| node.certificate);
            match known {
                Some(known) if known.fingerprint == *shown.fingerprint.as_bytes() => Ok(()),
                Some(_) | None => Err(denied(
                    "its certificate is of a root that was replaced, and not the one that the node had then: leave the cluster and join again",
                    caller,
                )),
            }
        }
        Caller::Node { .. } => {
            let message =
                format!("{caller} is refused: its certificate is of a root that was replaced: it must renew it");
            Err(Refusal::new(Code::RootReplaced, message))
        }
        Caller::Operator { shown, .. } => {
            let known = record.operators.iter().find(|known| known.fingerprint == *shown.fingerprint.as_bytes());
            match known {
                None => {
                    let advice = "its certificate is not on record: have a new one made with \"sctl operator create\"";
                    Err(Refusal::new(Code::NotOnRecord, format!("{caller} is refused: {advice}")))
                }
                Some(known) if known.revoked_at.is_some() => Err(denied("its certificate was taken back", caller)),
                Some(_) if !is_of_present_root(shown) => Err(denied(
                    "its certificate is of a root that was replaced: have a new one made with \"sctl operator create\"",
                    caller,
                )),
                Some(_) => Ok(()),
            }
        }
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
    let message = format!(
        "{caller} is refused: it is no node of this cluster (any more): \"sctl cluster leave\" on it, and join again"
    );
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

/// Whether a node that shows a manager's certificate may have become a manager after this state was made: it has never
/// been heard of. One that was a manager and was removed is no such node, as long as it is remembered.
pub(crate) fn may_be_new(node: &NodeId, view: &View) -> bool {
    let is_former = view.cluster_record().is_some_and(|record| record.former_managers.contains(node));
    view.node(node).is_none() && !is_former
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::Arc;

    use expect_test::expect_file;
    use secretd_ca::{Authority, Fingerprint};
    use secretd_core::fake::clock::FakeClock;
    use secretd_core::node::{Availability, ClusterSpec, NodeCertificate, NodeDescription};
    use secretd_core::seam::clock::Clock;
    use secretd_core::time::Timestamp;
    use secretd_proto::id::ClusterId;
    use secretd_store::{Op, Operator, Store};

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
        let certificate = NodeCertificate { issuer: [0xee; 32], fingerprint: [2; 32], not_after: Timestamp(1) };
        let issuer = *authority.digest().as_bytes();
        let operator = |fill: u8, issuer| Operator {
            name: "mia".to_owned(),
            admin: true,
            serial: format!("{fill:02x}"),
            fingerprint: [fill; 32],
            issuer,
            issued_at: Timestamp(0),
            expires_at: Timestamp(1),
            revoked_at: None,
        };
        let ops = vec![
            Op::SetNodeCertificate { id: id(2), certificate },
            Op::PutOperator { operator: operator(1, issuer) },
            Op::PutOperator { operator: operator(5, issuer) },
            Op::PutOperator { operator: operator(6, [0xee; 32]) },
            Op::RevokeOperators { serials: vec!["05".to_owned()] },
        ];
        store.propose(ops).await.unwrap();
        store.view()
    }

    /// A certificate of the present root, or of another one, with this fingerprint.
    fn shown(view: &View, is_present: bool, fill: u8) -> Shown {
        let root = CertificateDer::from(view.cluster().unwrap().roots[0].as_slice());
        let issuer = if is_present { RootDigest::of(&root) } else { RootDigest::from_bytes([0xee; 32]) };
        Shown { fingerprint: Fingerprint::from_bytes([fill; 32]), issuer, not_after: Timestamp(1), is_ahead: false }
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
        let view = view().await;
        let good = shown(&view, true, 1);
        let node = |n, role, expired| Caller::Node { id: id(n), role, shown: good, expired };
        let old = |n, fill, expired| {
            let shown = shown(&view, false, fill);
            Caller::Node { id: id(n), role: Worker, shown, expired }
        };
        let named = |role, shown, expired| Caller::Operator { name: "mia".to_owned(), role, shown, expired };
        let operator = |role, expired| named(role, good, expired);
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
            ("nobody", Caller::Anonymous { from: None }),
            ("worker with the certificate of a replaced root that it is known by", old(2, 2, false)),
            ("the same, expired", old(2, 2, true)),
            ("worker with another certificate of a replaced root", old(2, 3, false)),
            ("removed node with a certificate of a replaced root", old(3, 2, false)),
            ("admin that was taken back", named(Admin, shown(&view, true, 5), false)),
            ("viewer that was taken back", named(Viewer, shown(&view, true, 5), false)),
            ("admin of a replaced root", named(Admin, shown(&view, false, 6), false)),
            ("admin that is not on record", named(Admin, shown(&view, true, 9), false)),
        ];
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
    async fn manager_that_was_removed_has_no_say_while_nobody_leads_and_one_never_heard_of_has() {
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::default());
        let store = Store::in_memory(Arc::clone(&clock)).await;
        let authority = Authority::generate(ClusterId::from_random([1; 16]), clock.now()).unwrap();
        let founder = Founder {
            node: id(1),
            address: String::new(),
            description: NodeDescription::default(),
            availability: Availability::Active,
        };
        let cluster = ClusterId::from_random([1; 16]);
        found(&store, cluster, &authority, ClusterSpec::default(), founder).await.unwrap();
        let stale = store.view().cluster_record().cloned().unwrap();
        let manager = |n| new_node(id(n), String::new(), NodeDescription::default(), Availability::Active, true);
        store.propose(vec![Op::PutNode { node: manager(3) }, Op::PutNode { node: manager(4) }]).await.unwrap();
        store.propose(vec![Op::SetNodeRole { id: id(3), manager: false }]).await.unwrap();
        store.propose(vec![Op::RemoveNode { id: id(3) }, Op::RemoveNode { id: id(4) }]).await.unwrap();
        // Whoever changes the cluster may have seen it before that.
        let expect = stale.cluster.meta.version;
        store.propose(vec![Op::UpdateCluster { expect, record: stale }]).await.unwrap();

        let view = store.view();
        let nobody_leads = |node: &NodeId| may_be_new(node, &view);
        for (_, method) in calls().iter().filter(|(service, _)| service == "Raft") {
            let path = format!("/secretd.v1.Raft/{method}");
            let refusal = |n| {
                let shown = shown(&view, true, 1);
                let caller = Caller::Node { id: id(n), role: NodeRole::Manager, shown, expired: false };
                authorize(&path, &caller, &view, nobody_leads).err().map(|refusal| refusal.code)
            };
            let removed = Some(Code::NodeRemoved);
            assert_eq!([refusal(3), refusal(4), refusal(9)], [removed, removed, None], "{method}");
        }
    }

    #[tokio::test]
    async fn calls_that_do_not_exist_are_nobodys_but_the_services() {
        let view = view().await;
        let shown = shown(&view, true, 1);
        let node = Caller::Node { id: id(1), role: NodeRole::Manager, shown, expired: false };
        for path in ["", "/", "/secretd.v1.Local/InitCluster", "/other/Get", "/secretd.v1.Images/List"] {
            assert!(authorize(path, &node, &view, takes_part).is_err(), "{path}");
        }
    }

    #[test]
    fn streams_of_operators_are_known_so_that_they_can_be_ended() {
        let control = include_str!("../../../proto/proto/secretd/v1/control.proto");
        let streams = control.lines().filter(|line| line.contains("returns (stream"));
        let names = streams.filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        let mut known = crate::revocation::STREAMS.to_vec();
        let mut names: Vec<&str> = names.collect();
        known.sort_unstable();
        names.sort_unstable();
        assert_eq!(known, names);
    }

    #[tokio::test]
    async fn refusals_say_what_is_to_be_done() {
        let view = view().await;
        let refusal = |fill, is_present| {
            let shown = shown(&view, is_present, fill);
            let mia = Caller::Operator { name: "mia".to_owned(), role: OperatorRole::Admin, shown, expired: false };
            authorize("/secretd.v1.Control/ListNodes", &mia, &view, takes_part).unwrap_err().message
        };
        let node = Caller::Node { id: id(2), role: NodeRole::Worker, shown: shown(&view, false, 2), expired: false };
        let outdated = authorize("/secretd.v1.Dispatcher/Session", &node, &view, takes_part).unwrap_err();

        assert_eq!(refusal(5, true), "operator mia is refused: its certificate was taken back");
        assert!(
            refusal(6, false)
                .contains("of a root that was replaced: have a new one made with \"sctl operator create\"")
        );
        assert!(refusal(9, true).contains("is not on record: have a new one made"));
        assert_eq!(outdated.code, Code::RootReplaced);
    }

    #[tokio::test]
    async fn state_that_is_behind_is_brought_forward_by_a_root_that_it_does_not_know() {
        let view = view().await;
        let shown = Shown { is_ahead: true, ..shown(&view, false, 1) };
        let manager = Caller::Node { id: id(1), role: NodeRole::Manager, shown, expired: false };
        let allowed = |path: &str| authorize(path, &manager, &view, takes_part).is_ok();
        assert!(allowed("/secretd.v1.Raft/Append"));
        assert!(!allowed("/secretd.v1.Dispatcher/Session") && !allowed("/secretd.v1.Admission/Renew"));
    }

    #[tokio::test]
    async fn removed_node_is_told_so() {
        let view = view().await;
        let shown = shown(&view, true, 1);
        let gone = Caller::Node { id: id(3), role: NodeRole::Worker, shown, expired: false };
        let refusal = authorize("/secretd.v1.Dispatcher/Session", &gone, &view, takes_part).unwrap_err();
        assert_eq!(refusal.code, Code::NodeRemoved);
    }
}
