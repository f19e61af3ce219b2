//! Preconditions as tables, and the laws of applying.

use proptest::prelude::*;
use secretd_core::node::NodeState;
use secretd_core::secret::SecretVersion;
use secretd_core::service::UpdateState;
use secretd_core::service::UpdateStatus;
use secretd_core::task::{Regression, TaskState};
use secretd_core::time::{Timestamp, Version};

use super::apply;
use crate::conflict::{Conflict, ObjectKind};
use crate::fixture::*;
use crate::op::{Op, Payload, Proposal, number_payloads};
use crate::record::{decode_record, encode_record};
use crate::state::State;
use crate::view::View;

fn propose(state: &State, index: u64, ops: Vec<Op>) -> Result<super::Applied, Conflict> {
    let mut proposals = [Proposal { at: Timestamp(i64::try_from(index).unwrap()), ops }];
    number_payloads(&mut proposals);
    apply(state, index, &proposals[0])
}

/// The state after proposals that are all accepted.
fn after(proposals: Vec<Vec<Op>>) -> State {
    (1..).zip(proposals).fold(State::default(), |state, (index, ops)| propose(&state, index, ops).unwrap().state)
}

#[allow(clippy::needless_pass_by_value)] // tables read better
fn check(state: &State, op: Op, expect: Conflict) {
    assert_eq!(propose(state, 1000, vec![op]).unwrap_err(), expect);
}

#[allow(clippy::needless_pass_by_value)] // tables read better
fn not_found(kind: ObjectKind, id: impl ToString) -> Conflict {
    Conflict::NotFound { kind, id: id.to_string() }
}

#[test]
fn secrets_are_refused_by_name_id_version_and_use() {
    let state = after(vec![
        vec![init()],
        vec![create_secret(1, "a", 5), create_secret(2, "b", 5)],
        vec![create_service(1, "zeta", vec![grant(1, "a", None)])],
        vec![create_service(2, "alpha", vec![grant(1, "a", None)])],
    ]);

    check(&state, create_secret(3, "a", 5), Conflict::NameTaken { kind: ObjectKind::Secret, name: "a".to_owned() });
    let id = secret_id(1).to_string();
    check(&state, create_secret(1, "c", 5), Conflict::IdTaken { kind: ObjectKind::Secret, id });
    let (expected, actual) = (SecretVersion(2), SecretVersion(1));
    check(&state, update_secret(1, 2, 5, 0), Conflict::SecretOutOfSequence { id: secret_id(1), expected, actual });
    check(&state, update_secret(9, 1, 5, 0), not_found(ObjectKind::Secret, secret_id(9)));
    check(&state, Op::RemoveSecret { id: secret_id(9) }, not_found(ObjectKind::Secret, secret_id(9)));
    let services = vec!["alpha".parse().unwrap(), "zeta".parse().unwrap()];
    let in_use = Conflict::SecretInUse { name: "a".parse().unwrap(), services };
    assert_eq!(in_use.to_string(), "secret a is in use by: alpha, zeta");
    check(&state, Op::RemoveSecret { id: secret_id(1) }, in_use);
    assert!(propose(&state, 9, vec![Op::RemoveSecret { id: secret_id(2) }]).is_ok());
}

#[test]
fn services_are_refused_by_name_grants_and_version() {
    let state = after(vec![
        vec![init()],
        vec![create_secret(1, "a", 5)],
        vec![create_service(1, "app", vec![])],
        vec![update_secret(1, 1, 6, 1)],
    ]);

    let taken = Conflict::NameTaken { kind: ObjectKind::Service, name: "app".to_owned() };
    check(&state, create_service(2, "app", vec![]), taken);
    let missing = Conflict::GrantedSecretMissing { secret: secret_id(9), name: "x".parse().unwrap() };
    check(&state, create_service(2, "new", vec![grant(9, "x", None)]), missing);
    let gone = Conflict::PinnedVersionMissing { name: "a".parse().unwrap(), version: SecretVersion(1) };
    check(&state, create_service(2, "new", vec![grant(1, "a", Some(1))]), gone);
    let update = |expect, name: &str| Op::UpdateService {
        id: service_id(1),
        expect: Version(expect),
        spec: service_spec(name, vec![]),
        previous_spec: None,
        update_status: None,
    };
    let (expected, actual) = (Version(1), Version(3));
    check(&state, update(1, "app"), Conflict::OutOfSequence { id: service_id(1), expected, actual });
    check(&state, update(3, "other"), Conflict::NameChanged { name: "app".parse().unwrap() });
}

#[test]
fn a_services_spec_version_changes_with_its_tasks_alone() {
    let state = after(vec![vec![init()], vec![create_service(1, "app", vec![])]]);
    let update = |expect, spec| Op::UpdateService {
        id: service_id(1),
        expect: Version(expect),
        spec,
        previous_spec: None,
        update_status: None,
    };
    let mut spec = service_spec("app", vec![]);
    spec.labels.insert("a".to_owned(), "b".to_owned());

    let state = propose(&state, 3, vec![update(2, spec.clone())]).unwrap().state;
    let service = state.services.get(&service_id(1)).unwrap();
    assert_eq!((service.meta.version, service.spec_version), (Version(3), Version(2)));
    spec.task.force_update = 1;
    let state = propose(&state, 4, vec![update(3, spec)]).unwrap().state;
    let service = state.services.get(&service_id(1)).unwrap();
    assert_eq!((service.meta.version, service.spec_version), (Version(4), Version(4)));
}

#[test]
fn tasks_go_forward_only_and_are_reported_by_their_node_alone() {
    let state = after(vec![
        vec![init()],
        vec![create_service(1, "app", vec![])],
        vec![create_task(1, 1, vec![])],
        vec![Op::AssignTask { id: task_id(1), node: node_id(1) }],
    ]);
    let report = |node, state| Op::UpdateTaskStatus { id: task_id(1), node, status: status(state) };

    let nobody = Conflict::NotAtNode { id: task_id(1), node: None };
    check(&state, report(None, TaskState::Running), nobody);
    let regression = Regression { from: TaskState::Assigned, to: TaskState::Pending };
    let back = Conflict::TaskRegression { id: task_id(1), regression };
    check(&state, report(Some(node_id(1)), TaskState::Pending), back);
    let again = Conflict::NotAssignable { id: task_id(1), state: TaskState::Assigned };
    check(&state, Op::AssignTask { id: task_id(1), node: node_id(1) }, again);
    check(&state, create_task(2, 9, vec![]), not_found(ObjectKind::Service, service_id(9)));
    let state =
        propose(&state, 9, vec![Op::SetTaskDesired { id: task_id(1), state: TaskState::Shutdown }]).unwrap().state;
    let regression = Regression { from: TaskState::Shutdown, to: TaskState::Running };
    let back = Conflict::TaskRegression { id: task_id(1), regression };
    check(&state, Op::SetTaskDesired { id: task_id(1), state: TaskState::Running }, back);
}

#[test]
fn an_operation_that_changes_nothing_makes_no_version_and_no_event() {
    let state = after(vec![vec![init()], vec![create_secret(1, "a", 5)]]);
    let same = Op::UpdateSecret { id: secret_id(1), expect: SecretVersion(1), labels: None, payload: None };

    let applied = propose(&state, 9, vec![same, Op::PutNode { node: node(1) }]).unwrap();

    assert_eq!(applied.state.version, state.version);
    assert!(applied.events.is_empty() && applied.touched.is_empty());
}

#[test]
fn old_payloads_are_kept_while_a_service_or_a_task_pins_them() {
    let kept = |state: &State| -> Vec<u64> {
        state.secrets.get(&secret_id(1)).unwrap().payloads.iter().map(|(version, _)| version.0).collect()
    };
    let pin = || vec![grant(1, "a", Some(1))];
    let state = after(vec![
        vec![init()],
        vec![create_secret(1, "a", 5)],
        vec![create_service(1, "app", pin())],
        vec![create_task(1, 1, pin())],
        vec![update_secret(1, 1, 5, 1)],
        vec![update_secret(1, 2, 5, 2)],
    ]);

    assert_eq!(kept(&state), [1, 3]);
    let state = propose(&state, 7, vec![Op::RemoveService { id: service_id(1) }]).unwrap().state;
    assert_eq!(kept(&state), [1, 3], "the task still pins it");
    let state = propose(&state, 8, vec![Op::RemoveTask { id: task_id(1) }]).unwrap().state;
    assert_eq!(kept(&state), [3]);
}

/// Few objects and names, so that operations meet.
fn any_op() -> impl Strategy<Value = Op> {
    let n = 1..4u8;
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let pinned = prop_oneof![3 => Just(None), 1 => (1..4u64).prop_map(Some)];
    let grants = (1..4u8, pinned).prop_map(|(n, pinned)| vec![grant(n, ["a", "b", "c"][usize::from(n - 1)], pinned)]);
    let states = prop_oneof![Just(TaskState::Running), Just(TaskState::Failed), Just(TaskState::Pending)];
    prop_oneof![
        (n.clone(), name.clone(), 1..50u32).prop_map(|(n, name, length)| create_secret(n, name, length)),
        (n.clone(), 1..4u64, 1..50u32).prop_map(|(n, expect, length)| update_secret(n, expect, length, n)),
        n.clone().prop_map(|n| Op::RemoveSecret { id: secret_id(n) }),
        (n.clone(), name.clone(), grants.clone()).prop_map(|(n, name, grants)| create_service(n, name, grants)),
        (n.clone(), 1..30u64, name, grants.clone()).prop_map(|(n, expect, name, grants)| Op::UpdateService {
            id: service_id(n),
            expect: Version(expect),
            spec: service_spec(name, grants),
            previous_spec: Some(service_spec(name, vec![])),
            update_status: None,
        }),
        n.clone().prop_map(|n| Op::SetUpdateStatus {
            id: service_id(n),
            status: Some(UpdateStatus {
                state: UpdateState::Updating,
                started_at: Timestamp(5),
                completed_at: None,
                message: "going".to_owned(),
            }),
        }),
        n.clone().prop_map(|n| Op::RemoveService { id: service_id(n) }),
        (n.clone(), 1..4u8, grants).prop_map(|(n, service, grants)| create_task(n, service, grants)),
        (n.clone(), states.clone()).prop_map(|(n, state)| Op::UpdateTaskStatus {
            id: task_id(n),
            node: Some(node_id(1)),
            status: status(state),
        }),
        (n.clone(), states).prop_map(|(n, state)| Op::SetTaskDesired { id: task_id(n), state }),
        (n.clone(), 1..3u8).prop_map(|(n, node)| Op::AssignTask { id: task_id(n), node: node_id(node) }),
        n.clone().prop_map(|n| Op::RemoveTask { id: task_id(n) }),
        n.clone().prop_map(|n| Op::PutNode { node: node(n) }),
        n.prop_map(|n| Op::SetNodeStatus { id: node_id(n), state: NodeState::Down, message: "gone".to_owned() }),
    ]
}

pub(crate) fn any_history() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let proposals = proptest::collection::vec(proptest::collection::vec(any_op(), 1..4), 0..40);
    proposals.prop_map(|mut proposals| {
        proposals.insert(0, vec![init()]);
        proposals
    })
}

/// Everything that can be told of a state, to compare by: the shape of its trees is left out.
pub(crate) fn shown(state: &State) -> Vec<String> {
    fn index<K: std::fmt::Debug + Ord, T: std::fmt::Debug + Ord>(
        map: &rpds::RedBlackTreeMapSync<K, rpds::RedBlackTreeSetSync<T>>,
    ) -> String {
        format!("{:?}", map.iter().map(|(key, members)| (key, members.iter().collect::<Vec<_>>())).collect::<Vec<_>>())
    }
    let mut shown: Vec<_> = state.keys().map(|key| format!("{key:?} {:?}", state.get(key))).collect();
    shown.push(format!("{:?}", state.version));
    shown.push(format!("{:?}", state.secret_names.iter().collect::<Vec<_>>()));
    shown.push(format!("{:?}", state.service_names.iter().collect::<Vec<_>>()));
    shown.extend([index(&state.tasks_of_service), index(&state.tasks_of_node)]);
    shown.extend([index(&state.services_using), index(&state.tasks_using)]);
    shown
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_log_gives_the_same_state(history in any_history()) {
        let run = || {
            (1..).zip(history.clone()).fold(State::default(), |state, (index, ops)| {
                propose(&state, index, ops).map_or(state, |applied| applied.state)
            })
        };

        prop_assert_eq!(shown(&run()), shown(&run()));
    }

    #[test]
    fn records_that_were_touched_are_all_that_changed(history in any_history()) {
        let (mut state, mut replica) = (State::default(), State::default());
        for (index, ops) in (1..).zip(history) {
            let Ok(applied) = propose(&state, index, ops) else { continue };
            state = applied.state;
            for key in applied.touched {
                match state.get(key) {
                    Some(record) => replica.put(decode_record(&encode_record(&record)).unwrap()),
                    None => replica.remove(key),
                }
            }
            replica.version = state.version;
        }

        prop_assert_eq!(shown(&state), shown(&replica));
    }

    #[test]
    fn indexes_agree_with_the_objects(history in any_history()) {
        let mut state = State::default();
        for (index, ops) in (1..).zip(history) {
            if let Ok(applied) = propose(&state, index, ops) {
                state = applied.state;
            }
        }
        let mut rebuilt = State { version: state.version, ..State::default() };
        for record in state.keys().filter_map(|key| state.get(key)) {
            rebuilt.put(record);
        }

        prop_assert_eq!(shown(&state), shown(&rebuilt));
        let view = View::new(state);
        for secret in view.secrets() {
            prop_assert!(view.payload_ref(&secret.id, secret.version).is_some());
        }
        for service in view.services() {
            for grant in &service.spec.task.container.secrets {
                prop_assert!(view.secret(&grant.secret).is_some(), "a service grants a secret that is gone");
                let version = grant.pinned.unwrap_or(view.secret(&grant.secret).unwrap().version);
                prop_assert!(view.payload_ref(&grant.secret, version).is_some());
            }
        }
    }
}

/// Found by chance: a name that goes from one secret to another within one proposal, and an id that gets another name.
#[test]
fn name_that_changes_hands_in_one_proposal_stays_in_the_index() {
    for (second, name) in [(0, "b"), (2, "b"), (1, "c")] {
        let state = after(vec![vec![init()], vec![create_secret(1, "b", 1)]]);
        let applied =
            propose(&state, 3, vec![Op::RemoveSecret { id: secret_id(1) }, create_secret(second, name, 1)]).unwrap();
        let mut replica = state;
        for key in applied.touched {
            match applied.state.get(key) {
                Some(record) => replica.put(record),
                None => replica.remove(key),
            }
        }
        replica.version = applied.state.version;

        assert_eq!(shown(&applied.state), shown(&replica));
    }
}

#[test]
fn payloads_of_one_entry_have_places_of_their_own() {
    let state = after(vec![vec![init()], vec![create_secret(1, "a", 5), create_secret(2, "b", 5)]]);

    let places: std::collections::BTreeSet<_> = state.payloads().collect();

    assert_eq!(places.len(), 2);
    assert!(Payload::from(payload(5, 1)).sealed().is_some());
}
