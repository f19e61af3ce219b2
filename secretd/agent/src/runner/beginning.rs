//! What a runner begins with: what the cluster knows of the task against what is there. Pure.

use secretd_core::task::TaskState;
use secretd_proto::shim::{Phase, Status};

use super::Found;
use super::end::End;

/// The first thing to do for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beginning {
    /// There is nothing yet: make it.
    New,
    /// A secretd that ended has left something half made: take it away, then make it.
    Again,
    /// The container is there: go on with it.
    Adopt(Status),
    /// It ended while nobody looked.
    Ended(End),
}

/// What to begin with, where the cluster knows the task to be in state `known`.
pub(super) fn beginning(known: TaskState, found: Found) -> Beginning {
    let was_made = known >= TaskState::Ready;
    let lost = |how: &str| Beginning::Ended(End::Failed(format!("the container was lost: {how}")));
    match found {
        Found::Nothing if was_made => lost("has the node been restarted?"),
        Found::Nothing => Beginning::New,
        Found::Remains if was_made => lost("its shim has died"),
        Found::Remains => Beginning::Again,
        Found::Container(status) => match status.phase {
            Phase::Created | Phase::Running => Beginning::Adopt(status),
            Phase::Exited(exit) => Beginning::Ended(End::Exited(exit)),
            Phase::Failed(failure) => Beginning::Ended(End::Rejected(failure.message)),
            Phase::Creating => Beginning::Again,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect;
    use secretd_proto::shim::{Exit, Failure, PROTOCOL, Step};

    use super::*;

    fn found() -> Vec<(&'static str, Found)> {
        let container = |phase| {
            Found::Container(Status { protocol: PROTOCOL, phase, pid: None, secret_backend: "none".to_owned() })
        };
        let failure = Failure { step: Step::Command, message: "no such program".to_owned() };
        vec![
            ("nothing", Found::Nothing),
            ("remains", Found::Remains),
            ("creating", container(Phase::Creating)),
            ("created", container(Phase::Created)),
            ("running", container(Phase::Running)),
            ("exited", container(Phase::Exited(Exit { code: 3, oom_killed: false, at_unix_nanos: 0 }))),
            ("failed", container(Phase::Failed(failure))),
        ]
    }

    #[test]
    fn what_is_there_decides_and_what_is_known_tells_lost_from_new() {
        let mut table = String::new();
        for known in [TaskState::Assigned, TaskState::Preparing, TaskState::Ready, TaskState::Running] {
            for (name, found) in found() {
                let begins = match beginning(known, found) {
                    Beginning::New => "make it".to_owned(),
                    Beginning::Again => "take away, make it".to_owned(),
                    Beginning::Adopt(_) => "adopt".to_owned(),
                    Beginning::Ended(end) => {
                        let (state, _, error) = end.told();
                        format!("{}: {error}", state.word())
                    }
                };
                writeln!(table, "{:9} {name:8} -> {begins}", known.word()).unwrap();
            }
        }

        expect![[r#"
            Assigned  nothing  -> make it
            Assigned  remains  -> take away, make it
            Assigned  creating -> take away, make it
            Assigned  created  -> adopt
            Assigned  running  -> adopt
            Assigned  exited   -> Failed: task: non-zero exit (3)
            Assigned  failed   -> Rejected: no such program
            Preparing nothing  -> make it
            Preparing remains  -> take away, make it
            Preparing creating -> take away, make it
            Preparing created  -> adopt
            Preparing running  -> adopt
            Preparing exited   -> Failed: task: non-zero exit (3)
            Preparing failed   -> Rejected: no such program
            Ready     nothing  -> Failed: the container was lost: has the node been restarted?
            Ready     remains  -> Failed: the container was lost: its shim has died
            Ready     creating -> take away, make it
            Ready     created  -> adopt
            Ready     running  -> adopt
            Ready     exited   -> Failed: task: non-zero exit (3)
            Ready     failed   -> Rejected: no such program
            Running   nothing  -> Failed: the container was lost: has the node been restarted?
            Running   remains  -> Failed: the container was lost: its shim has died
            Running   creating -> take away, make it
            Running   created  -> adopt
            Running   running  -> adopt
            Running   exited   -> Failed: task: non-zero exit (3)
            Running   failed   -> Rejected: no such program
        "#]]
        .assert_eq(&table);
    }
}
