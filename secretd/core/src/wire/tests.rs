//! What goes over the wire comes back the same, and what is not known is refused by name.

use std::collections::BTreeMap;

use proptest::prelude::*;
use secretd_proto::id::{NodeId, SecretId, ServiceId, TaskId};

use super::*;
use crate::placement::{Constraint, Placement};
use crate::secret::SecretVersion;
use crate::service::*;
use crate::task::{ContainerStatus, Task, TaskState, TaskStatus};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 /=_.-]{0,12}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(text(), text(), 0..3)
}

fn duration() -> impl Strategy<Value = Duration> {
    (0_u64..1 << 40, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![
        (text(), any::<bool>(), map()).prop_map(|(name, nocopy, labels)| MountKind::Volume { name, nocopy, labels }),
        (text(), text()).prop_map(|(source, propagation)| MountKind::Bind { source, propagation }),
        (any::<u64>(), any::<u32>()).prop_map(|(size, mode)| MountKind::Tmpfs { size, mode }),
    ];
    (kind, text(), any::<bool>()).prop_map(|(kind, target, read_only)| Mount { kind, target, read_only })
}

fn grant() -> impl Strategy<Value = SecretGrant> {
    (any::<[u8; 16]>(), "[a-z]{1,9}", text(), any::<[u32; 3]>(), any::<Option<u64>>()).prop_map(
        |(id, name, target, [uid, gid, mode], pinned)| SecretGrant {
            secret: SecretId::from_random(id),
            name: name.parse().unwrap(),
            target,
            uid,
            gid,
            mode,
            pinned: pinned.filter(|&version| version != 0).map(SecretVersion),
        },
    )
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let texts = (text(), texts(), texts(), texts(), text(), text(), texts(), text());
    let lists = (map(), prop::collection::vec(mount(), 0..3), prop::collection::vec(grant(), 0..3), map());
    let flags = (any::<[bool; 4]>(), text(), duration(), any::<i32>(), any::<(i64, i64)>());
    (texts, lists, flags).prop_map(|(texts, (labels, mounts, secrets, sysctls), flags)| {
        let (image, entrypoint, args, env, workdir, user, groups, hostname) = texts;
        let ([read_only, init, tty, no_new_privileges], stop_signal, stop_grace_period, oom_score_adj, (soft, hard)) =
            flags;
        ContainerSpec {
            image,
            entrypoint,
            args: args.clone(),
            env,
            workdir,
            user,
            groups,
            hostname,
            labels,
            mounts,
            secrets,
            read_only,
            init,
            tty,
            no_new_privileges,
            stop_signal,
            stop_grace_period,
            cap_add: args.clone(),
            cap_drop: args.clone(),
            hosts: args,
            ulimits: vec![Ulimit { name: "nofile".into(), soft, hard }],
            sysctls,
            oom_score_adj,
        }
    })
}

fn placement() -> impl Strategy<Value = Placement> {
    let key = prop::sample::select(vec!["node.id", "node.role", "node.labels.a", "engine.labels.b"]);
    let constraint = (key.clone(), any::<bool>(), "[a-z0-9]{1,5}").prop_map(|(key, equal, value)| Constraint {
        key: key.parse().unwrap(),
        equal,
        value,
    });
    let preference = key.prop_map(|key| key.parse().unwrap());
    let lists = (prop::collection::vec(constraint, 0..3), prop::collection::vec(preference, 0..3));
    (lists, any::<u64>()).prop_map(|((constraints, preferences), max_replicas_per_node)| Placement {
        constraints,
        preferences,
        max_replicas_per_node,
    })
}

fn task_spec() -> impl Strategy<Value = TaskSpec> {
    let restart = (
        prop::sample::select(vec![RestartCondition::Any, RestartCondition::OnFailure, RestartCondition::None]),
        duration(),
        any::<u64>(),
        duration(),
    )
        .prop_map(|(condition, delay, max_attempts, window)| RestartPolicy {
            condition,
            delay,
            max_attempts,
            window,
        });
    let network = prop::sample::select(vec![NetworkMode::None, NetworkMode::Host]);
    (container(), restart, any::<[i64; 5]>(), any::<u64>(), (text(), map()), network, placement()).prop_map(
        |(
            container,
            restart,
            [nano_cpus, memory_bytes, pids, cpus, memory],
            force_update,
            (driver, options),
            network,
            placement,
        )| {
            TaskSpec {
                container,
                restart,
                resources: Resources {
                    nano_cpus,
                    memory_bytes,
                    pids,
                    reserve_nano_cpus: cpus,
                    reserve_memory_bytes: memory,
                },
                force_update,
                log: LogConfig { driver, options },
                network,
                placement,
            }
        },
    )
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let update = (
        any::<u64>(),
        duration(),
        prop::sample::select(vec![UpdateOrder::StopFirst, UpdateOrder::StartFirst]),
        prop::sample::select(vec![FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback]),
        duration(),
    )
        .prop_map(|(parallelism, delay, order, failure_action, monitor)| UpdateConfig {
            parallelism,
            delay,
            order,
            failure_action,
            monitor,
        });
    let mode =
        prop_oneof![any::<u64>().prop_map(|replicas| ServiceMode::Replicated { replicas }), Just(ServiceMode::Global)];
    ("[a-z]{1,9}", map(), task_spec(), mode, update).prop_map(|(name, labels, task, mode, update)| ServiceSpec {
        name: name.parse().unwrap(),
        labels,
        task,
        mode,
        update,
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(|nanos| Timestamp(nanos / 2))
}

fn meta() -> impl Strategy<Value = Meta> {
    (any::<u64>(), time(), time()).prop_map(|(version, created_at, updated_at)| Meta {
        version: Version(version),
        created_at,
        updated_at,
    })
}

const STATES: [TaskState; 14] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

fn task() -> impl Strategy<Value = Task> {
    let status =
        (prop::sample::select(STATES.to_vec()), time(), text(), text(), any::<Option<(i64, i32, bool)>>(), text())
            .prop_map(|(state, since, message, error, container, secret_backend)| TaskStatus {
                state,
                since,
                message,
                error,
                container: container.map(|(pid, exit_code, oom_killed)| ContainerStatus {
                    pid,
                    exit_code,
                    oom_killed,
                    image_digest: "sha256:1".into(),
                }),
                secret_backend,
            });
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<Option<[u8; 16]>>());
    let desired = prop::sample::select(STATES.to_vec());
    (ids, meta(), any::<(u64, u64)>(), task_spec(), desired, status).prop_map(
        |((id, service, node), meta, (slot, version), spec, desired_state, status)| Task {
            id: TaskId::from_random(id),
            meta,
            service_id: ServiceId::from_random(service),
            service_name: "app".parse().unwrap(),
            slot,
            node_id: node.map(NodeId::from_random),
            spec,
            spec_version: Version(version),
            desired_state,
            status,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn task_comes_back_the_same(task in task()) {
        prop_assert_eq!(Task::try_from(v1::Task::from(task.clone())), Ok(task));
    }

    #[test]
    fn service_comes_back_the_same(id: [u8; 16], meta in meta(), spec in service_spec(), previous in prop::option::of(service_spec()), at in time()) {
        let states = [
            UpdateState::Updating, UpdateState::Paused, UpdateState::Completed, UpdateState::RollbackStarted,
            UpdateState::RollbackPaused, UpdateState::RollbackCompleted,
        ];
        for state in states {
            let status = UpdateStatus { state, started_at: at, completed_at: Some(at), message: "m".into() };
            let service = Service {
                id: ServiceId::from_random(id), meta, spec: spec.clone(), previous_spec: previous.clone(),
                update_status: Some(status), spec_version: meta.version,
            };
            prop_assert_eq!(Service::try_from(v1::Service::from(service.clone())), Ok(service));
        }
    }
}

#[test]
fn faults_name_their_field() {
    let spec = || v1::ServiceSpec {
        name: "app".into(),
        task: Some(v1::TaskSpec { container: Some(v1::ContainerSpec::default()), ..v1::TaskSpec::default() }),
        mode: Some(v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas: 1 })),
        ..v1::ServiceSpec::default()
    };
    let field = |change: &dyn Fn(&mut v1::ServiceSpec)| {
        let mut changed = spec();
        change(&mut changed);
        ServiceSpec::try_from(changed).unwrap_err().field
    };
    let container = |spec: &mut v1::ServiceSpec, change: &dyn Fn(&mut v1::ContainerSpec)| {
        change(spec.task.as_mut().unwrap().container.as_mut().unwrap());
    };

    assert!(ServiceSpec::try_from(spec()).is_ok());
    assert_eq!(field(&|spec| spec.name = "-".into()), "name");
    assert_eq!(field(&|spec| spec.mode = None), "mode");
    assert_eq!(field(&|spec| spec.task = None), "task");
    assert_eq!(field(&|spec| spec.task.as_mut().unwrap().network = 9), "task.network");
    assert_eq!(field(&|spec| container(spec, &|c| c.secrets.push(v1::SecretGrant::default()))), "secrets.secret_id");
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    assert_eq!(
        field(&|spec| container(spec, &|c| c.stop_grace_period = Some(negative))),
        "container.stop_grace_period"
    );
}

#[test]
fn what_is_absent_gets_dockers_defaults() {
    let container = ContainerSpec::try_from(v1::ContainerSpec::default()).unwrap();
    let update = UpdateConfig::try_from(v1::UpdateConfig { parallelism: 1, ..v1::UpdateConfig::default() }).unwrap();
    let restart = RestartPolicy::try_from(v1::RestartPolicy::default()).unwrap();

    assert_eq!(container.stop_grace_period, Duration::from_secs(10));
    assert_eq!(update, UpdateConfig::default());
    assert_eq!(restart, RestartPolicy::default());
}
