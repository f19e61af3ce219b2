//! What managers refuse: the code that scripts match, the line that people read, and nothing half made.

use secretd_proto::code::Code;
use secretd_proto::id::SecretId;
use secretd_proto::v1;

use crate::agent::Agent;
use crate::harness::{World, container, grant, refused, replicas, spec};

async fn create(world: &World, name: &str, length: u32, payload: Option<v1::SealedPayload>) -> (Code, String) {
    let request = v1::CreateSecretRequest {
        id: SecretId::random().to_string(),
        spec: Some(v1::SecretSpec { name: name.to_owned(), labels: [].into() }),
        length,
        payload,
    };
    refused(world.control().create_secret(request).await)
}

fn sealed(length: usize) -> Option<v1::SealedPayload> {
    Some(v1::SealedPayload { ciphertext: vec![0; length + 16], wrapped_dek: vec![0; 80] })
}

#[tokio::test(start_paused = true)]
async fn secrets_of_a_wrong_size_are_refused_with_both_sizes() {
    let world = World::founded().await;
    let size = |n: usize| {
        (Code::InvalidArgument, format!("secret data has {n} bytes: it must have at least 1 and at most 512000 bytes"))
    };

    assert_eq!(create(&world, "pw", 0, sealed(0)).await, size(0));
    assert_eq!(create(&world, "pw", 512_001, sealed(512_001)).await, size(512_001));
    assert_eq!(create(&world, "pw", 5, sealed(512_001)).await, size(512_001));
    assert_eq!(create(&world, "pw", 5, sealed(4)).await.0, Code::InvalidArgument);
    assert_eq!(create(&world, "pw", 5, None).await.0, Code::InvalidArgument);
    let short_key = Some(v1::SealedPayload { ciphertext: vec![0; 21], wrapped_dek: vec![0; 79] });
    assert_eq!(create(&world, "pw", 5, short_key).await.1, "the wrapped key has 79 bytes, it must have 80");
    assert_eq!(world.store.view().secrets().count(), 0);

    world.create_secret("largest", &vec![7; 512_000]).await;
}

#[tokio::test(start_paused = true)]
async fn names_of_secrets_follow_the_rule() {
    let world = World::founded().await;
    let too_long = "a".repeat(65);
    for name in ["", "-a", "a-", "a b", "a/b", &too_long] {
        let (code, line) = create(&world, name, 1, sealed(1)).await;

        assert_eq!(code, Code::InvalidArgument, "{name}");
        assert!(
            line.starts_with("invalid secret name: it must have 1 to 64 characters out of [a-zA-Z0-9-_.]"),
            "{line}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn taken_names_leave_the_existing_object_alone() {
    let world = World::founded().await;
    let secret = world.create_secret("pw", b"first").await;
    world.create_service(spec("web", 1, "app:1")).await.unwrap();

    let of_secret = create(&world, "pw", 1, sealed(1)).await;
    let of_service = refused(world.create_service(spec("web", 9, "other:1")).await);

    assert_eq!(of_secret, (Code::NameConflict, "secret pw already exists".to_owned()));
    let line = "name conflicts with an existing object: service web already exists";
    assert_eq!(of_service, (Code::NameConflict, line.to_owned()));
    let id = secret.id.parse().unwrap();
    assert_eq!(world.store.view().secret(&id).unwrap().length, 5);
    assert_eq!(container(&mut world.service("web").await.spec.unwrap()).image, "app:1");
}

#[tokio::test(start_paused = true)]
async fn secret_in_use_is_not_removed() {
    let world = World::founded().await;
    let secret = world.create_secret("pw", b"first").await;
    for name in ["b", "a"] {
        let mut spec = spec(name, 0, "app:1");
        container(&mut spec).secrets.push(grant(&secret, "pw"));
        world.create_service(spec).await.unwrap();
        let request = v1::RemoveSecretRequest { reference: "pw".to_owned(), ..Default::default() };
        let refusal = refused(world.control().remove_secret(request).await);
        let users = if name == "b" { "service: b" } else { "services: a, b" };

        assert_eq!(refusal, (Code::InUse, format!("secret 'pw' is in use by the following {users}")));
    }
}

#[tokio::test(start_paused = true)]
async fn updates_out_of_sequence_are_refused() {
    let world = World::founded().await;
    let secret = world.create_secret("pw", b"first").await;
    let service = world.create_service(spec("web", 1, "app:1")).await.unwrap();
    world.update_secret(&secret, 2, b"second").await.unwrap();
    world.update_service("web", |spec| replicas(spec, 2)).await;

    for version in [2, 4] {
        let (code, line) = refused(world.update_secret(&secret, version, b"again").await);
        assert_eq!(code, Code::OutOfSequence);
        assert!(line.starts_with("update out of sequence: the secret is at version 2"), "{line}");
    }
    let request = v1::UpdateServiceRequest {
        id: service.id,
        version: service.meta.unwrap().version,
        spec: service.spec,
        rollback: false,
    };
    let (code, line) = refused(world.control().update_service(request).await);
    assert_eq!(code, Code::OutOfSequence);
    assert!(line.starts_with("update out of sequence"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn secret_update_needs_something_new() {
    let world = World::founded().await;
    let secret = world.create_secret("pw", b"first").await;
    let update = |request: v1::UpdateSecretRequest| {
        let mut control = world.control();
        async move { control.update_secret(request).await }
    };
    let nothing = v1::UpdateSecretRequest { id: secret.id.clone(), ..Default::default() };
    assert_eq!(refused(update(nothing.clone()).await).1, "nothing to update: give new data or labels");

    let labels = [("env".to_owned(), "prod".to_owned())].into();
    let updated = update(v1::UpdateSecretRequest { labels, ..nothing.clone() }).await.unwrap().into_inner();
    let updated = updated.secret.unwrap();
    assert_eq!((updated.secret_version, updated.spec.unwrap().labels.len()), (1, 1));
    let cleared = update(v1::UpdateSecretRequest { replace_labels: true, ..nothing }).await.unwrap().into_inner();
    assert_eq!(cleared.secret.unwrap().spec.unwrap().labels.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_named() {
    let world = World::founded().await;
    let mut control = world.control();
    let of = |text: &str| text.to_owned();

    let secret = refused(control.get_secret(v1::GetSecretRequest { reference: of("nope") }).await);
    let service = refused(control.get_service(v1::GetServiceRequest { reference: of("nope") }).await);
    let task = refused(control.get_task(v1::GetTaskRequest { reference: of("nope.1") }).await);
    let node = refused(control.get_node(v1::GetNodeRequest { reference: of("nope") }).await);
    let request = v1::ServiceLogsRequest { reference: of("nope"), ..Default::default() };
    let logs = refused(control.service_logs(request).await.map(drop));

    assert_eq!(secret, (Code::NotFound, of("secret nope not found")));
    assert_eq!(service, (Code::NotFound, of("no such service: nope")));
    assert_eq!(task, (Code::NotFound, of("no such task: nope.1")));
    assert_eq!(node, (Code::NotFound, of("node nope not found")));
    assert_eq!(logs, (Code::NotFound, of("no such task or service: nope")));
}

#[tokio::test(start_paused = true)]
async fn unknown_filters_are_refused() {
    let world = World::founded().await;
    let mut control = world.control();
    let filters = vec![v1::Filter { key: "colour".to_owned(), value: "red".to_owned() }];

    let refusals = [
        refused(control.list_secrets(v1::ListSecretsRequest { filters: filters.clone() }).await),
        refused(control.list_services(v1::ListServicesRequest { filters: filters.clone() }).await),
        refused(control.list_tasks(v1::ListTasksRequest { filters: filters.clone() }).await),
        refused(control.list_nodes(v1::ListNodesRequest { filters: filters.clone() }).await),
        refused(control.watch_events(v1::WatchEventsRequest { filters, ..Default::default() }).await.map(drop)),
    ];

    for (code, line) in refusals {
        assert_eq!(code, Code::InvalidArgument);
        assert!(line.starts_with("invalid filter 'colour'"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_grants_are_refused_with_their_flag() {
    let world = World::founded().await;
    let _agent = Agent::connect(&world).await;
    let (pw, key) = (world.create_secret("pw", b"1").await, world.create_secret("key", b"1").await);
    let gone = v1::Secret { id: SecretId::random().to_string(), ..pw.clone() };
    let with = |target: &str, change: &dyn Fn(&mut v1::SecretGrant)| {
        let mut grant = grant(&pw, target);
        change(&mut grant);
        vec![grant]
    };
    let cases = [
        (
            vec![grant(&pw, "a"), grant(&key, "a")],
            "secret references 'pw' and 'key' have a conflicting target: '/run/secrets/a' (--secret target=)",
        ),
        (
            vec![grant(&pw, "a"), grant(&key, "/run/secrets/a")],
            "secret references 'pw' and 'key' have a conflicting target: '/run/secrets/a' (--secret target=)",
        ),
        (
            vec![grant(&pw, "a"), grant(&key, "a/b")],
            "secret references 'pw' and 'key' have a conflicting target: '/run/secrets/a/b' (--secret target=)",
        ),
        (
            with("a", &|grant| grant.mode = 0o1777),
            "invalid mode 0o1777 of secret 'pw': it must be octal, at most 0777 (--secret mode=)",
        ),
        (with("a", &|grant| grant.uid = u32::MAX), "invalid uid of secret 'pw': there is no such id (--secret uid=)"),
        (with("", &|_| {}), "malformed secret reference, no target provided (--secret target=)"),
        (
            with("../a", &|_| {}),
            "invalid secret target `../a`: give a file name, a path below /run/secrets, or an absolute path, without `.`, `..` or empty parts (--secret target=)",
        ),
        (
            with("a", &|grant| grant.pinned_version = 2),
            "version 2 of secret 'pw' does not exist, its versions are 1 to 1 (--secret version=)",
        ),
        (vec![grant(&gone, "a"), grant(&gone, "b")], "secrets not found: pw, pw (--secret)"),
        (vec![grant(&gone, "a")], "secret not found: pw (--secret)"),
    ];

    for (grants, line) in cases {
        let mut spec = spec("web", 1, "app:1");
        container(&mut spec).secrets = grants;
        let refusal = refused(world.create_service(spec).await);

        assert_eq!(refusal, (Code::InvalidArgument, line.to_owned()));
    }
    assert_eq!(world.store.view().services().count(), 0);
}

type Change = Box<dyn Fn(&mut v1::ServiceSpec)>;

fn of_container(change: impl Fn(&mut v1::ContainerSpec) + 'static) -> Change {
    Box::new(move |spec| change(container(spec)))
}

fn of_resources(change: impl Fn(&mut v1::Resources) + 'static) -> Change {
    Box::new(move |spec| change(spec.task.as_mut().unwrap().resources.as_mut().unwrap()))
}

fn of_log(driver: &'static str, options: &'static [(&str, &str)]) -> Change {
    Box::new(move |spec| {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        spec.task.as_mut().unwrap().log = Some(v1::LogConfig { driver: driver.to_owned(), options });
    })
}

fn mount(kind: v1::mount::Kind, source: &str, target: &str) -> v1::Mount {
    v1::Mount { kind: kind.into(), source: source.to_owned(), target: target.to_owned(), ..v1::Mount::default() }
}

#[tokio::test(start_paused = true)]
#[allow(clippy::too_many_lines)] // a table
async fn wrong_services_are_refused_with_their_flag() {
    use v1::mount::Kind::{Bind, Tmpfs, Volume};
    let world = World::founded().await;
    let mounts = |mounts: Vec<v1::Mount>| of_container(move |container| container.mounts = mounts.clone());
    let ulimits = |ulimits: Vec<(&'static str, i64, i64)>| {
        of_container(move |container| {
            let ulimit =
                |(name, soft, hard): &(&str, _, _)| v1::Ulimit { name: (*name).to_owned(), soft: *soft, hard: *hard };
            container.ulimits = ulimits.iter().map(ulimit).collect();
        })
    };
    let sysctl = |name: &'static str| {
        of_container(move |container| drop(container.sysctls.insert(name.to_owned(), "1".to_owned())))
    };
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(|spec| spec.name = "a.b".to_owned()),
            "invalid service name: it must be valid as a DNS name component: [a-zA-Z0-9], with - and _ within",
        ),
        (Box::new(|spec| spec.name = "a".repeat(64)), "invalid service name: it must be 63 characters or fewer"),
        (Box::new(|spec| spec.task = None), "field `task`: is missing"),
        (
            Box::new(|spec| replicas(spec, 1_000_000)),
            "invalid replicas value 1000000: it must be at most 100000 (--replicas)",
        ),
        (of_container(|container| container.image.clear()), "ContainerSpec: image reference must be provided"),
        (
            of_container(|container| container.image = "App:1".into()),
            "ContainerSpec: \"App:1\" is not a valid repository/tag",
        ),
        (
            of_container(|container| container.env = vec!["=a".into()]),
            "invalid environment variable: '' (--env takes NAME=VALUE)",
        ),
        (
            of_container(|container| container.env = vec!["A".into()]),
            "invalid environment variable: 'A' (--env takes NAME=VALUE)",
        ),
        (
            of_container(|container| container.workdir = "a".into()),
            "invalid workdir a: it must be an absolute path (--workdir)",
        ),
        (
            of_container(|container| container.user = "a:b:c".into()),
            "invalid user a:b:c: --user takes NAME or UID, with :GROUP or :GID",
        ),
        (of_container(|container| container.hosts = vec!["a b".into()]), "invalid host a b: --host takes NAME:ADDRESS"),
        (
            of_container(|container| container.oom_score_adj = 1001),
            "invalid oom score adj value 1001: it must be from -1000 to 1000 (--oom-score-adj)",
        ),
        (
            of_container(|container| container.stop_signal = "SIGNOPE".into()),
            "invalid signal SIGNOPE: --stop-signal takes a name such as SIGTERM or a number from 1 to 64",
        ),
        (
            of_container(|container| container.cap_add = vec!["CAP_NOPE".into()]),
            "invalid capability CAP_NOPE: --cap-add and --cap-drop take names of capabilities(7) or ALL",
        ),
        (
            of_container(|container| {
                container.stop_grace_period = Some(prost_types::Duration { seconds: -1, nanos: 0 })
            }),
            "field `container.stop_grace_period`: is no duration: it must not be negative",
        ),
        (
            mounts(vec![mount(Volume, "", "/a"), mount(Tmpfs, "", "/a/")]),
            "ContainerSpec: duplicate mount point: /a/ (--mount)",
        ),
        (
            mounts(vec![mount(Volume, "", "a")]),
            "invalid mount target, must be an absolute path without `..`: a (--mount target=)",
        ),
        (
            mounts(vec![mount(Volume, "", "/a/../b")]),
            "invalid mount target, must be an absolute path without `..`: /a/../b (--mount target=)",
        ),
        (
            mounts(vec![mount(Bind, "a", "/a")]),
            "invalid bind mount source, must be an absolute path: a (--mount source=)",
        ),
        (
            mounts(vec![mount(Volume, "/a", "/a")]),
            "invalid volume mount source, must not be an absolute path: /a (--mount source=)",
        ),
        (
            mounts(vec![mount(Volume, "a b", "/a")]),
            "invalid volume name a b: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 255 characters (--mount source=)",
        ),
        (
            mounts(vec![mount(Tmpfs, "", "/run/secrets")]),
            "invalid mount target /run/secrets: secrets are there (--mount target=)",
        ),
        (
            mounts(vec![v1::Mount { bind_propagation: "far".into(), ..mount(Bind, "/a", "/a") }]),
            "invalid propagation far: --mount bind-propagation= takes one of rprivate, private, rshared, shared, rslave, slave",
        ),
        (
            ulimits(vec![("nope", 1, 1)]),
            "invalid ulimit type nope: --ulimit takes one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack",
        ),
        (
            ulimits(vec![("nofile", -1, 5)]),
            "ulimit soft limit must be less than or equal to hard limit: nofile=-1:5 (--ulimit)",
        ),
        (ulimits(vec![("nofile", 1, 5), ("nofile", 1, 6)]), "ulimit nofile is given twice (--ulimit)"),
        (
            sysctl("kernel.panic"),
            "sysctl kernel.panic is not namespaced: --sysctl takes net.*, fs.mqueue.* and the kernel's message, semaphore and shared memory parameters",
        ),
        (
            of_resources(|resources| resources.nano_cpus = 100_000),
            "invalid cpu value 0.0001: Must be at least 0.001 (--limit-cpu)",
        ),
        (
            of_resources(|resources| resources.memory_bytes = 4_194_303),
            "invalid memory value 4194303: Must be at least 4MiB (--limit-memory)",
        ),
        (
            of_resources(|resources| resources.reserve_memory_bytes = 1),
            "invalid memory value 1: Must be at least 4MiB (--reserve-memory)",
        ),
        (
            of_resources(|resources| resources.pids = -1),
            "invalid pids value -1: Must be at least 1, or 0 for no limit (--limit-pids)",
        ),
        (
            of_resources(|resources| (resources.nano_cpus, resources.reserve_nano_cpus) = (1_000_000, 2_000_000)),
            "the reservation of processors is above its limit (--reserve-cpu)",
        ),
        (of_log("syslog", &[]), "invalid log driver syslog: --log-driver takes json-file or none"),
        (of_log("", &[("colour", "red")]), "unknown log opt 'colour' for json-file log driver (--log-opt)"),
        (
            of_log("json-file", &[("max-size", "big")]),
            "invalid value big of max-size: --log-opt max-size takes a number of bytes, with k, m or g",
        ),
        (
            of_log("json-file", &[("max-file", "2")]),
            "max-file above 1 needs max-size: without it files are never rotated (--log-opt)",
        ),
        (
            of_log("json-file", &[("max-size", "1m"), ("max-file", "0")]),
            "invalid value 0 of max-file: --log-opt max-file takes a number from 1",
        ),
    ];

    for (change, line) in cases {
        let mut spec = spec("web", 1, "app:1");
        change(&mut spec);
        let refusal = refused(world.create_service(spec).await);

        assert_eq!(refusal, (Code::InvalidArgument, line.to_owned()));
    }
    assert_eq!(world.store.view().services().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn mount_and_secret_need_different_targets() {
    let world = World::founded().await;
    let secret = world.create_secret("pw", b"1").await;
    let mut spec = spec("web", 1, "app:1");
    container(&mut spec).secrets.push(grant(&secret, "/etc/pw"));
    container(&mut spec).mounts.push(mount(v1::mount::Kind::Tmpfs, "", "/etc/pw"));

    let refusal = refused(world.create_service(spec).await);

    assert_eq!(refusal.1, "mount and secret have the same target: /etc/pw (--mount target=, --secret target=)");
}

#[tokio::test(start_paused = true)]
async fn services_are_not_renamed() {
    let world = World::founded().await;
    let service = world.create_service(spec("web", 1, "app:1")).await.unwrap();
    let request = v1::UpdateServiceRequest {
        id: service.id,
        version: service.meta.unwrap().version,
        spec: Some(spec("other", 1, "app:1")),
        rollback: false,
    };
    let refusal = refused(world.control().update_service(request).await);

    let line = "renaming services is not supported: the service's name is web";
    assert_eq!(refusal, (Code::InvalidArgument, line.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn good_services_are_taken() {
    let world = World::founded().await;
    let digest = format!("app@sha256:{}", "0a".repeat(32));
    for (n, image) in
        ["app", "app:1", "localhost:5000/a/b:v1.2", "r.example.com/a__b-c", &digest].into_iter().enumerate()
    {
        let mut spec = spec(&format!("s{n}"), 0, image);
        container(&mut spec).cap_drop = vec!["all".to_owned()];
        container(&mut spec).stop_signal = "RTMIN+3".to_owned();
        container(&mut spec).hosts = vec!["::1 a b".to_owned()];
        container(&mut spec).sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        world.create_service(spec).await.unwrap_or_else(|refusal| panic!("{image}: {refusal}"));
    }
}
