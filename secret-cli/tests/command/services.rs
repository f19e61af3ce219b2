//! Services and commands: what flags make of a specification, waiting, and exit codes that pass through.

use crate::harness::{Node, answer};

#[test]
fn create_prints_the_id_and_waits() {
    let node = Node::start();

    let created = node.sctl(&["service", "create", "--name", "app", "app:1"], b"");

    let progress = "app: 0/1 running\napp: 1/1 running\n";
    assert_eq!(created, answer(0, "000000000000000000000svc1\n", progress));
    let detached = node.sctl(&["service", "create", "--detach", "app:1"], b"");
    assert_eq!(detached, answer(0, "000000000000000000000svc1\n", ""));
}

#[test]
fn secrets_are_resolved_before_the_service_is_created() {
    let node = Node::start();

    let missing = node.sctl(&["service", "create", "--secret", "x", "--secret", "y", "app:1"], b"");
    let twice = node.sctl(&["service", "create", "--secret", "used", "--secret", "used", "app:1"], b"");

    assert_eq!(missing, answer(5, "", "sctl: secrets not found: x, y\n"));
    assert!(twice.code == Some(1) && twice.stderr.contains("duplicate secret target"), "{twice:?}");
    assert!(node.asked(|asked| !asked.calls.contains(&"create_service")));
}

#[test]
fn flags_become_the_specification() {
    let node = Node::start();
    let flags = "service create -d --name app --replicas 3 --secret source=used,target=alias,uid=33,mode=0400 \
        -e A=1 -e A=2 -l tier=web --container-label c=d --mount type=tmpfs,target=/t,tmpfs-size=1m --limit-cpu 0.5 \
        --limit-memory 64m --limit-pids 9 --reserve-memory 32m --read-only --init --hostname h --host db:10.0.0.1 -u 1:2 \
        --group audio -w /w --entrypoint sh --stop-signal SIGINT --stop-grace-period 1m30s --restart-condition on-failure \
        --restart-delay 1s --update-parallelism 2 --update-order start-first --cap-add net_admin --cap-drop ALL \
        --no-new-privileges --ulimit nofile=1:2 --sysctl net.a=1 --oom-score-adj -5 --log-driver none -t --network host \
        app:1 -x --replicas 7";
    let created = node.sctl(&flags.split_whitespace().collect::<Vec<_>>(), b"");
    assert_eq!(created.code, Some(0), "{created:?}");

    let shown = node.asked(|asked| format!("{:#?}\n", asked.service.as_ref().unwrap()));

    expect_test::expect_file!["service.txt"].assert_eq(&shown);
}

#[test]
fn exit_code_and_streams_of_a_command_pass_through() {
    let node = Node::start();

    assert_eq!(node.sctl(&["exec", "-u", "me", "app.1", "ls", "-l", "--all"], b""), answer(7, "out\n", "err\n"));
    let start = node.asked(|asked| asked.exec.clone()).unwrap();
    assert_eq!((start.reference.as_str(), start.user.as_str()), ("app.1", "me"));
    assert_eq!(start.args, ["ls", "-l", "--all"]);
}
