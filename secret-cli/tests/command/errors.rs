//! Exit codes and error lines.

use crate::harness::{Node, answer, sctl};

#[test]
fn daemon_that_is_not_there_is_exit_code_3() {
    let directory = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/control.sock", directory.path().display());
    let line = format!("cannot reach secretd at {host}: no such file or directory: is secretd running?");

    assert_eq!(sctl(&host, &["secret", "ls"], b""), answer(3, "", &format!("sctl: {line}\n")));
    let json = sctl(&host, &["secret", "ls", "--format", "json"], b"");
    assert_eq!(json.stderr, format!("{{\"error\":{{\"code\":\"unreachable\",\"message\":\"{line}\"}}}}\n"));
}

#[test]
fn wrong_usage_is_exit_code_2_and_nothing_is_sent() {
    let node = Node::start();
    let wrong: [&[&str]; 10] = [
        &["secret", "ls", "--format", "{{.Name"],
        &["secret", "ls", "--format", "{{nope .Name}}"],
        &["secret", "create", "a"],
        &["secret", "update", "old"],
        &["service", "create", "--publish", "80:80", "app:1"],
        &["service", "create", "--mode", "global-job", "app:1"],
        &["service", "create", "--secret", "source=a,uid=www-data", "app:1"],
        &["service", "create", "--secret", "source=a,mode=9", "app:1"],
        &["service", "scale", "app"],
        &["image", "pull", "--username", "me", "app:1"],
    ];
    for arguments in wrong {
        let answer = node.sctl(arguments, b"");

        assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{arguments:?}: {answer:?}");
        assert!(answer.stderr.starts_with("sctl: ") && answer.stderr.lines().count() == 1, "{answer:?}");
    }
    assert!(node.asked(|asked| asked.calls.is_empty()));
}

#[test]
fn unknown_user_is_named() {
    let line = Node::start().sctl(&["service", "create", "--secret", "source=a,uid=www-data", "app:1"], b"").stderr;

    assert!(line.contains("--secret") && line.contains("unknown uid www-data"), "{line}");
}

#[test]
fn refusals_of_the_daemon_have_their_exit_codes() {
    let node = Node::start();

    let used = "sctl: secret 'used' is in use by the following service: app\n";
    assert_eq!(node.sctl(&["secret", "rm", "used"], b""), answer(4, "", used));
    assert_eq!(node.sctl(&["secret", "inspect", "x"], b""), answer(5, "[]\n", "sctl: secret x not found\n"));
    assert_eq!(node.sctl(&["secret", "create", "taken", "-"], b"v").code, Some(4));
    assert_eq!(node.sctl(&["cluster", "init"], b"").code, Some(1));
}

#[test]
fn several_names_go_on_past_a_failure() {
    let node = Node::start();

    let same = node.sctl(&["secret", "rm", "x", "old", "y"], b"");
    assert_eq!(same, answer(5, "old\n", "sctl: secret x not found\nsctl: secret y not found\n"));
    assert_eq!(node.sctl(&["secret", "rm", "x", "used"], b"").code, Some(1));
}

#[test]
fn field_that_is_not_there_is_named() {
    let answer = Node::start().sctl(&["secret", "ls", "--format", "{{.Nope}}"], b"");

    assert_eq!(answer.code, Some(1));
    assert!(answer.stderr.starts_with("sctl: template: there is no field .Nope: there are ID, Name,"), "{answer:?}");
}
