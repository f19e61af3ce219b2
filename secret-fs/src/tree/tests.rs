//! Tables of trees.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn file(target: &str, payload: u8) -> File<u8> {
    let target = Target::parse(target).unwrap();
    File { target, uid: 1, gid: 2, mode: 0o400, payload }
}

fn show(tree: &Tree<u8>) -> String {
    let mut lines: Vec<String> =
        tree.entries().map(|(parent, name, ino)| format!("{parent} {name} -> {ino}")).collect();
    lines.extend(tree.files().map(|(ino, file)| format!("{ino} = {}", file.payload)));
    lines.join("\n")
}

fn check(targets: &[&str], want: &Expect) {
    let files = targets.iter().zip(1..).map(|(target, payload)| file(target, payload)).collect();
    let shown = match Tree::build(files, None) {
        Ok(tree) => show(&tree),
        Err(TargetRefused(target)) => format!("refused {target}"),
    };
    want.assert_eq(&shown);
}

#[test]
fn files_stand_below_secrets_or_in_absolute() {
    check(
        &["pw", "db/user", "/etc/key", "db/pw"],
        &expect![[r#"
            1 absolute -> 3
            1 secrets -> 2
            2 ..data -> 16
            2 db -> 18
            2 pw -> 17
            3 caf2bba246f5bf58 -> 20
            18 pw -> 21
            18 user -> 19
            17 = 1
            19 = 2
            20 = 3
            21 = 4"#]],
    );
}

#[test]
fn targets_that_collide_are_refused() {
    check(&["pw", "pw"], &expect!["refused /run/secrets/pw"]);
    check(&["/etc/key", "/etc/key"], &expect!["refused /etc/key"]);
    check(&["a", "a/b"], &expect!["refused /run/secrets/a/b"]);
    check(&["a/b", "a"], &expect!["refused /run/secrets/a"]);
}

#[test]
fn targets_that_were_never_parsed_are_refused() {
    let raw = [
        Target::Relative("../up".into()),
        Target::Relative("..data".into()),
        Target::Relative("/run/secrets/pw".into()),
        Target::Relative(String::new()),
        Target::Absolute("relative".into()),
        Target::Absolute("/run/secrets/pw".into()),
        Target::Absolute("/etc/../pw".into()),
    ];
    for target in raw {
        let file = File { target: target.clone(), uid: 0, gid: 0, mode: 0, payload: 0 };
        assert!(Tree::build(vec![file], None).is_err(), "{target:?}");
    }
}

#[test]
fn link_is_renamed_into_place_with_a_new_number() {
    let mut tree = Tree::<u8>::empty();
    assert!(!tree.rename_link());

    let new = tree.make_link().unwrap();
    assert_eq!(tree.make_link(), None);
    assert_eq!(tree.lookup(SECRETS, DATA_LINK_NEW), Some(new));
    assert!(tree.rename_link());

    assert_eq!(tree.lookup(SECRETS, DATA_LINK), Some(new));
    assert_eq!(tree.lookup(SECRETS, DATA_LINK_NEW), None);
    assert!(!tree.remove_new_link());
}

#[test]
fn listing_begins_with_the_directory_itself_and_its_parent() {
    let tree = Tree::build(vec![file("db/pw", 1)], None).unwrap();
    assert_eq!(tree.list(SECRETS).unwrap(), [(".", 2), ("..", 1), ("..data", 16), ("db", 17)]);
    assert_eq!(tree.list(17).unwrap(), [(".", 17), ("..", 2), ("pw", 18)]);
    assert_eq!(tree.list(18), None);
}

proptest! {
    #[test]
    fn path_keeps_its_number_when_the_files_change(
        old in prop::collection::btree_set("[a-c](/[a-c])?", 0..6),
        new in prop::collection::btree_set("[a-c](/[a-c])?", 0..6),
    ) {
        let build = |names: &std::collections::BTreeSet<String>, before: Option<&Tree<u8>>| {
            Tree::build(names.iter().map(|name| file(name, 0)).collect(), before)
        };
        let (Ok(before), Ok(alone)) = (build(&old, None), build(&new, None)) else { return Ok(()) };

        let after = build(&new, Some(&before)).unwrap();

        for name in &new {
            let path = format!("{SECRETS_DIRECTORY}/{name}");
            prop_assert!(after.path(&path).is_some() && alone.path(&path).is_some());
            if before.path(&path).is_some() {
                prop_assert_eq!(after.path(&path), before.path(&path));
            }
        }
        let mut numbers: Vec<u64> = after.entries().map(|(_, _, ino)| ino).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), count);
    }
}
