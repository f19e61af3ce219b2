//! Secrets: what is refused before anything is sent, and what is sent.

use secretd_proto::limit::MAX_SECRET_LENGTH;

use crate::harness::{Node, answer};

#[test]
fn empty_and_large_secrets_are_refused_before_anything_is_sent() {
    let node = Node::start();

    let empty = node.sctl(&["secret", "create", "a", "-"], b"");
    let large = node.sctl(&["secret", "create", "a", "-"], &vec![b'x'; MAX_SECRET_LENGTH + 1]);
    let name = node.sctl(&["secret", "create", "-a", "-"], b"x");

    assert!(empty.code == Some(1) && empty.stderr.contains("data is empty"), "{empty:?}");
    assert!(large.stderr.contains("512001") && large.stderr.contains("512000"), "{large:?}");
    assert_eq!((large.code, name.code), (Some(1), Some(2)));
    assert!(node.asked(|asked| asked.calls.is_empty()));
}

#[test]
fn plaintext_is_not_in_what_is_sent() {
    let node = Node::start();
    let plaintext = b"a-plaintext-canary\n";

    let created = node.sctl(&["secret", "create", "--label", "env=prod", "a", "-"], plaintext);

    let request = node.asked(|asked| asked.created.clone()).unwrap();
    let payload = request.payload.unwrap();
    assert_eq!(created, answer(0, &format!("{}\n", request.id), ""));
    assert_eq!((request.length as usize, payload.ciphertext.len()), (plaintext.len(), plaintext.len() + 16));
    assert!(!payload.ciphertext.windows(5).any(|window| window == b"plain"));
    assert_eq!(request.spec.unwrap().labels["env"], "prod");
}

#[test]
fn update_that_comes_second_says_so() {
    let node = Node::start();

    let update = node.sctl(&["secret", "update", "old", "-"], b"next");

    assert_eq!(update.code, Some(4));
    assert!(update.stderr.starts_with("sctl: secret old was updated by someone else meanwhile"), "{update:?}");
    assert_eq!(
        node.asked(|asked| asked.updated.as_ref().map(|of| (of.secret_version, of.replace_labels))),
        Some((4, false))
    );
}

#[test]
fn lists_are_sorted_and_formatted() {
    let node = Node::start();

    assert_eq!(
        node.sctl(&["secret", "ls", "--format", "{{.Name}}:{{.Version}}"], b""),
        answer(0, "old:3\nused:3\n", "")
    );
    assert_eq!(node.sctl(&["secret", "ls", "-q"], b"").stdout, "0000000000000000000000abc\n".repeat(2));
    assert_eq!(node.sctl(&["secret", "inspect", "-f", "{{.Spec.Name}}", "old"], b""), answer(0, "old\n", ""));
}
