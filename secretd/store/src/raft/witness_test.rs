//! Managers that bear witness of each other, message by message.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::v1;
use secretd_proto::v1::standing::Verdict;

use super::witness::Witness;
use crate::engine::{Engine, Key, Writes};
use crate::fixture::{directory, sealer};

/// A manager, as far as it bears witness.
struct Manager {
    engine: Arc<Engine>,
    witness: Witness,
}

impl Manager {
    fn start(path: &Utf8Path, member: u64) -> Self {
        let engine = Arc::new(Engine::open(path, sealer()).unwrap());
        let witness = Witness::open(&engine, member).unwrap();
        Self { engine, witness }
    }

    /// Writes something, and with it what is known of others, as the log does.
    fn write(&self) {
        let mut writes = Writes::default();
        writes.put(Key::COMMITTED, vec![1]);
        if let Some((key, known)) = self.witness.take_changed() {
            writes.put(key, known);
        }
        self.engine.commit(writes).unwrap();
    }

    fn member(&self) -> u64 {
        self.witness.standing(0).member
    }

    /// Asks another manager once: what that says of the request, and whether this one finds that it went back.
    fn asks(&self, other: &Self) -> (Verdict, bool) {
        let answer = other.witness.judge(Some(self.witness.standing(other.member())), "the one that asks");
        let found = self.witness.answered(Some(answer), "the one that answers").is_err();
        (answer.verdict(), found)
    }

    fn stop(self) {
        self.engine.close().unwrap();
    }
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name().to_str().unwrap())).unwrap();
    }
}

/// Two managers that have met, and a copy of the first one's data from before the second has heard of its last commits.
fn met() -> (tempfile::TempDir, Utf8PathBuf, Utf8PathBuf, Manager) {
    let (guard, root) = directory();
    let (path, old) = (root.join("one"), root.join("old"));
    let one = Manager::start(&path, 1);
    one.write();
    one.stop();
    copy(&path, &old);
    let (one, two) = (Manager::start(&path, 1), Manager::start(&root.join("two"), 2));
    assert_eq!(one.asks(&two), (Verdict::Served, false));
    one.write();
    assert_eq!(one.asks(&two), (Verdict::Served, false));
    two.write();
    one.stop();
    (guard, path, old, two)
}

#[test]
fn request_of_a_store_that_went_back_is_not_looked_at_and_it_finds_out() {
    let (_guard, _, old, two) = met();
    let one = Manager::start(&old, 1);
    for _ in 0..100 {
        one.write(); // it counts past what was known of it
    }

    assert_eq!(one.asks(&two), (Verdict::Stranger, true));

    // It takes part no more, whoever asks whom, and after another start.
    assert!(one.asks(&two).1);
    assert_eq!(two.asks(&one).0, Verdict::RolledBack);
    assert!(one.engine.get(&Key::ROLLED_BACK).unwrap().is_some());
    assert!(one.witness.rolled_back().borrow().is_some());
}

#[test]
fn store_that_went_back_finds_out_from_a_request_too() {
    let (_guard, _, old, two) = met();
    let one = Manager::start(&old, 1);

    assert_eq!(two.asks(&one).0, Verdict::RolledBack);
    assert!(one.witness.rolled_back().borrow().is_some());
}

#[test]
fn store_that_was_started_again_is_served_once_it_has_looked() {
    let (_guard, path, _, two) = met();
    let one = Manager::start(&path, 1);

    // It is told first what is known of it, which was so.
    assert_eq!(one.asks(&two), (Verdict::Stranger, false));
    assert!(one.witness.has_met(2));
    assert_eq!(one.asks(&two), (Verdict::Served, false));
    assert_eq!(two.asks(&one), (Verdict::Served, false));
}

#[test]
fn what_is_known_outlives_a_start_and_is_handed_on() {
    let (_guard, _, old, two) = met();
    let root = old.parent().unwrap();
    two.stop();
    let (two, three) = (Manager::start(&root.join("two"), 2), Manager::start(&root.join("three"), 3));
    three.witness.hear(&two.witness.tell());
    let one = Manager::start(&old, 1);

    // The third has never spoken to it.
    assert_eq!(one.asks(&three), (Verdict::Stranger, true));
}

#[test]
fn answer_that_was_lost_or_overtaken_condemns_nobody() {
    let (_guard, path, _, two) = met();
    let one = Manager::start(&path, 1);
    let early = one.witness.standing(2);
    let _lost = two.witness.judge(Some(early), "one");
    one.write();
    assert_eq!(one.asks(&two), (Verdict::Stranger, false));
    assert_eq!(one.asks(&two), (Verdict::Served, false));

    // The first request comes once more, late: it is of the same run.
    let answer = two.witness.judge(Some(early), "one");
    assert_eq!(answer.verdict(), Verdict::Served);
    assert!(one.witness.answered(Some(answer), "two").is_ok());
    assert_eq!(one.asks(&two), (Verdict::Served, false));
}

#[test]
fn who_says_nothing_of_itself_is_not_served() {
    let (_guard, _, _, two) = met();

    let answers = [None, Some(v1::Standing::default()), Some(v1::Standing { member: 9, ..v1::Standing::default() })];

    for shown in answers {
        assert_eq!(two.witness.judge(shown, "somebody").verdict(), Verdict::Stranger);
    }
}
