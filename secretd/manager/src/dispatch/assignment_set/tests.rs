//! Tables of what a node is told, and the law that what it was told is always what it should know.

use std::collections::HashMap;
use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::sample::{grant, secret, secret_id, service, task, task_id};

/// A state to look things up in.
#[derive(Default)]
struct World {
    tasks: BTreeMap<TaskId, Arc<Task>>,
    secrets: BTreeMap<SecretId, Arc<Secret>>,
    key: Vec<u8>,
    version: u64,
}

impl Source for World {
    fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }
    fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }
    fn node_key(&self) -> &[u8] {
        &self.key
    }
    fn version(&self) -> Version {
        Version(self.version)
    }
}

impl World {
    fn with_secrets(key: &[u8]) -> Self {
        let secrets = [1, 2].map(|n| (secret_id(n), secret(n, 1))).into();
        Self { secrets, key: key.to_vec(), version: 1, ..Self::default() }
    }

    /// A running task with secrets as files of their own name.
    fn put(&mut self, n: u8, state: TaskState, secrets: &[u8]) {
        let mut task = task(&service(1), n);
        task.status.state = state;
        task.spec.container.secrets = secrets.iter().map(|secret| grant(*secret, &format!("f{secret}"))).collect();
        self.tasks.insert(task.id, Arc::new(task));
        self.version += 1;
    }

    fn change(&mut self, n: u8, change: impl FnOnce(&mut Task)) {
        let task = self.tasks.get_mut(&task_id(n)).unwrap();
        change(Arc::make_mut(task));
        self.version += 1;
    }

    fn advance(&self, set: &mut AssignmentSet, tasks: &[u8], secrets: &[u8]) -> Vec<Delta> {
        let touched = Touched {
            tasks: tasks.iter().map(|n| task_id(*n)).collect(),
            secrets: secrets.iter().map(|n| secret_id(*n)).collect(),
        };
        set.advance(self, touched, self.tasks.keys().copied())
    }

    fn check(&self, set: &mut AssignmentSet, tasks: &[u8], secrets: &[u8], expected: &Expect) {
        expected.assert_eq(&show(&self.advance(set, tasks, secrets)));
    }
}

fn short(id: &impl ToString) -> String {
    id.to_string().trim_start_matches('0').to_owned()
}

fn show(deltas: &[Delta]) -> String {
    let mut text = String::new();
    let payload = |payload: &Payload| format!("s{}v{}", short(&payload.secret), payload.version.0);
    let grant = |of: &Grant| format!("t{} {} {} epoch {}", short(&of.task), of.target, payload(&of.payload), of.epoch);
    for delta in deltas {
        match delta {
            Delta::GiveSecret(secret) => writeln!(text, "+ {}", payload(secret)),
            Delta::GiveGrant(of) => writeln!(text, "+ grant {}", grant(of)),
            Delta::GiveTask(task) => writeln!(text, "+ t{} {:?}", short(&task.id), task.desired_state),
            Delta::TakeTask(task) => writeln!(text, "- t{}", short(task)),
            Delta::TakeGrant(of) => writeln!(text, "- grant {}", grant(of)),
            Delta::TakeSecret(secret) => writeln!(text, "- {}", payload(secret)),
        }
        .unwrap();
    }
    text
}

#[test]
fn secret_is_sent_once_for_all_its_users_and_goes_with_the_last() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Assigned, &[1]);
    world.put(2, TaskState::Assigned, &[1, 2]);
    world.check(
        &mut set,
        &[1, 2],
        &[],
        &expect![[r#"
        + s1v1
        + s2v1
        + grant t1 f1 s1v1 epoch 3
        + grant t2 f1 s1v1 epoch 3
        + grant t2 f2 s2v1 epoch 3
        + t1 Running
        + t2 Running
    "#]],
    );

    world.change(2, |task| task.status.state = TaskState::Failed);
    world.check(
        &mut set,
        &[2],
        &[],
        &expect![[r#"
        - grant t2 f1 s1v1 epoch 3
        - grant t2 f2 s2v1 epoch 3
        - s2v1
    "#]],
    );

    world.tasks.clear();
    world.check(
        &mut set,
        &[1, 2],
        &[],
        &expect![[r#"
        - t1
        - t2
        - grant t1 f1 s1v1 epoch 3
        - s1v1
    "#]],
    );
}

#[test]
fn status_of_a_task_is_not_echoed_and_desired_state_is() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Assigned, &[]);
    world.advance(&mut set, &[1], &[]);

    world.change(1, |task| task.status.state = TaskState::Running);
    world.check(&mut set, &[1], &[], &expect![[""]]);
    world.change(1, |task| task.desired_state = TaskState::Shutdown);
    world.check(
        &mut set,
        &[1],
        &[],
        &expect![[r#"
        + t1 Shutdown
    "#]],
    );
}

#[test]
fn unassigned_task_is_not_told() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Pending, &[1]);
    world.check(&mut set, &[1], &[], &expect![[""]]);
}

#[test]
fn rotation_reaches_the_tasks_that_follow_and_not_the_pinned_ones() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Running, &[1]);
    world.put(2, TaskState::Running, &[1]);
    world.change(2, |task| task.spec.container.secrets[0].pinned = Some(SecretVersion(1)));
    world.advance(&mut set, &[1, 2], &[]);

    world.secrets.insert(secret_id(1), secret(1, 2));
    world.version = 9;
    world.check(
        &mut set,
        &[],
        &[1],
        &expect![[r#"
        + s1v2
        + grant t1 f1 s1v2 epoch 9
    "#]],
    );

    world.tasks.remove(&task_id(2));
    world.check(
        &mut set,
        &[2],
        &[],
        &expect![[r#"
        - t2
        - grant t2 f1 s1v1 epoch 4
        - s1v1
    "#]],
    );
}

#[test]
fn rotation_of_the_only_user_takes_the_old_version_away_last() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Running, &[1]);
    world.advance(&mut set, &[1], &[]);

    world.secrets.insert(secret_id(1), secret(1, 2));
    world.check(
        &mut set,
        &[],
        &[1],
        &expect![[r#"
        + s1v2
        + grant t1 f1 s1v2 epoch 2
        - s1v1
    "#]],
    );
}

#[test]
fn task_with_secrets_waits_for_the_nodes_key() {
    let (mut world, mut set) = (World::with_secrets(b""), AssignmentSet::default());
    world.put(1, TaskState::Assigned, &[1]);
    world.put(2, TaskState::Assigned, &[]);
    world.check(
        &mut set,
        &[1, 2],
        &[],
        &expect![[r#"
        + t2 Running
    "#]],
    );

    world.key = b"k1".to_vec();
    world.check(
        &mut set,
        &[],
        &[],
        &expect![[r#"
        + s1v1
        + grant t1 f1 s1v1 epoch 3
        + t1 Running
    "#]],
    );
}

#[test]
fn running_task_is_told_although_secret_fs_is_not_there_yet() {
    let (mut world, mut set) = (World::with_secrets(b""), AssignmentSet::default());
    world.put(1, TaskState::Running, &[1]);
    world.check(
        &mut set,
        &[1],
        &[],
        &expect![[r#"
        + t1 Running
    "#]],
    );

    world.key = b"k1".to_vec();
    world.check(
        &mut set,
        &[],
        &[],
        &expect![[r#"
        + s1v1
        + grant t1 f1 s1v1 epoch 2
    "#]],
    );
}

#[test]
fn waiting_task_that_is_to_stop_is_told() {
    let (mut world, mut set) = (World::with_secrets(b""), AssignmentSet::default());
    world.put(1, TaskState::Assigned, &[1]);
    world.change(1, |task| task.desired_state = TaskState::Remove);
    world.check(
        &mut set,
        &[1],
        &[],
        &expect![[r#"
        + t1 Remove
    "#]],
    );
}

#[test]
fn new_key_of_the_node_brings_every_grant_again() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Running, &[1, 2]);
    world.advance(&mut set, &[1], &[]);

    world.key = Vec::new();
    world.check(&mut set, &[1], &[], &expect![[""]]);
    world.key = b"k2".to_vec();
    world.version = 7;
    world.check(
        &mut set,
        &[],
        &[],
        &expect![[r#"
        + grant t1 f1 s1v1 epoch 7
        + grant t1 f2 s2v1 epoch 7
    "#]],
    );
}

#[test]
fn version_that_came_while_there_was_no_key_comes_with_the_key() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Running, &[1]);
    world.advance(&mut set, &[1], &[]);

    world.key = Vec::new();
    world.secrets.insert(secret_id(1), secret(1, 2));
    world.check(&mut set, &[], &[1], &expect![[""]]);
    world.key = b"k1".to_vec();
    world.check(
        &mut set,
        &[],
        &[],
        &expect![[r#"
        + s1v2
        + grant t1 f1 s1v2 epoch 2
        - s1v1
    "#]],
    );
}

#[test]
fn removed_secret_is_revoked() {
    let (mut world, mut set) = (World::with_secrets(b"k1"), AssignmentSet::default());
    world.put(1, TaskState::Running, &[1]);
    world.advance(&mut set, &[1], &[]);

    world.secrets.remove(&secret_id(1));
    world.check(
        &mut set,
        &[],
        &[1],
        &expect![[r#"
        + t1 Running
        - grant t1 f1 s1v1 epoch 2
        - s1v1
    "#]],
    );
}

/// What a node has after being told.
#[derive(Debug, Default, PartialEq)]
struct Node {
    payloads: BTreeSet<Payload>,
    grants: HashMap<(TaskId, String), Grant>,
    tasks: BTreeMap<TaskId, TaskState>,
}

impl Node {
    fn hear(&mut self, delta: Delta) -> Result<(), TestCaseError> {
        match delta {
            Delta::GiveSecret(payload) => prop_assert!(self.payloads.insert(payload), "a payload came twice"),
            Delta::GiveGrant(grant) => {
                prop_assert!(self.payloads.contains(&grant.payload), "a grant came before its payload");
                let old = self.grants.insert((grant.task, grant.target.clone()), grant.clone());
                prop_assert!(old.is_none_or(|old| old.epoch < grant.epoch), "a new grant has no greater epoch");
            }
            Delta::GiveTask(task) => drop(self.tasks.insert(task.id, task.desired_state)),
            Delta::TakeTask(id) => prop_assert!(self.tasks.remove(&id).is_some(), "an unknown task went"),
            Delta::TakeGrant(grant) => {
                prop_assert!(self.grants.remove(&(grant.task, grant.target)).is_some(), "an unknown grant went");
            }
            Delta::TakeSecret(payload) => {
                prop_assert!(self.payloads.remove(&payload), "an unknown payload went");
                prop_assert!(self.grants.values().all(|grant| grant.payload != payload), "a used payload went");
            }
        }
        Ok(())
    }

    /// The payload behind each target: what differs between nodes only by when they were told is left out.
    fn content(&self) -> BTreeMap<(TaskId, String), Payload> {
        self.grants.iter().map(|(place, grant)| (place.clone(), grant.payload)).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>),
    State(u8, TaskState),
    Desire(u8, TaskState),
    Drop(u8),
    Rotate(u8),
    Key(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 1u8..5;
    let state = prop::sample::select(vec![TaskState::Assigned, TaskState::Running, TaskState::Failed]);
    let desired = prop::sample::select(vec![TaskState::Running, TaskState::Shutdown, TaskState::Remove]);
    let step = prop_oneof![
        (number.clone(), prop::sample::subsequence(vec![1u8, 2], 0..=2)).prop_map(|(n, s)| Step::Put(n, s)),
        (number.clone(), state).prop_map(|(n, state)| Step::State(n, state)),
        (number.clone(), desired).prop_map(|(n, state)| Step::Desire(n, state)),
        number.prop_map(Step::Drop),
        (1u8..3).prop_map(Step::Rotate),
        (0u8..3).prop_map(Step::Key),
    ];
    prop::collection::vec(step, 0..30)
}

proptest! {
    #[test]
    fn told_changes_add_up_to_the_complete_set(steps in steps()) {
        let (mut world, mut set, mut node) = (World::with_secrets(b"k"), AssignmentSet::default(), Node::default());
        for step in steps {
            world.version += 1;
            let (mut tasks, mut secrets) = (vec![], vec![]);
            match step {
                Step::Put(n, of) if !world.tasks.contains_key(&task_id(n)) => {
                    world.put(n, TaskState::Assigned, &of);
                    tasks.push(n);
                }
                Step::State(n, state) if world.tasks.contains_key(&task_id(n)) => {
                    world.change(n, |task| task.status.state = task.status.state.max(state));
                    tasks.push(n);
                }
                Step::Desire(n, state) if world.tasks.contains_key(&task_id(n)) => {
                    world.change(n, |task| task.desired_state = task.desired_state.max(state));
                    tasks.push(n);
                }
                Step::Drop(n) => {
                    world.tasks.remove(&task_id(n));
                    tasks.push(n);
                }
                Step::Rotate(n) => {
                    let version = world.secrets[&secret_id(n)].version.0 + 1;
                    world.secrets.insert(secret_id(n), secret(n, version));
                    secrets.push(n);
                }
                Step::Key(n) => world.key = vec![n; usize::from(n)],
                Step::Put(..) | Step::State(..) | Step::Desire(..) => {}
            }
            for delta in world.advance(&mut set, &tasks, &secrets) {
                node.hear(delta)?;
            }
        }
        world.key = b"last".to_vec();
        world.version += 1;
        for delta in world.advance(&mut set, &[], &[]) {
            node.hear(delta)?;
        }

        let mut fresh = Node::default();
        for delta in world.advance(&mut AssignmentSet::default(), &[1, 2, 3, 4], &[]) {
            fresh.hear(delta)?;
        }
        prop_assert_eq!(&node.payloads, &fresh.payloads);
        prop_assert_eq!(&node.tasks, &fresh.tasks);
        prop_assert_eq!(node.content(), fresh.content());
    }
}
