//! How a task ends, and what is told of it. Pure.

use secretd_core::seam::runtime::ContainerError;
use secretd_core::task::TaskState;
use secretd_proto::shim::Exit;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Shutdown(Option<Exit>),
    /// It could not be made.
    Rejected(String),
    /// It could not be started, or was lost.
    Failed(String),
    /// By itself.
    Exited(Exit),
}

impl End {
    /// The container went away without a word.
    pub(super) fn lost(error: &ContainerError) -> Self {
        Self::Failed(match error {
            ContainerError::NotFound(_) | ContainerError::ShimGone(_) => {
                "the container was lost: its shim has died".to_owned()
            }
            ContainerError::Shim(_) | ContainerError::Node { .. } => error.to_string(),
        })
    }

    /// How its first process ended, where that is known.
    pub(super) fn exit(&self) -> Option<Exit> {
        match self {
            Self::Shutdown(exit) => *exit,
            Self::Exited(exit) => Some(*exit),
            Self::Rejected(_) | Self::Failed(_) => None,
        }
    }

    /// State, message and error as `sctl service ps` shows them.
    pub(super) fn told(&self) -> (TaskState, &'static str, String) {
        match self {
            Self::Shutdown(_) => (TaskState::Shutdown, "shutdown", String::new()),
            Self::Rejected(why) => (TaskState::Rejected, "preparing", why.clone()),
            Self::Failed(why) => (TaskState::Failed, "started", why.clone()),
            Self::Exited(Exit { code: 0, .. }) => (TaskState::Complete, "finished", String::new()),
            Self::Exited(Exit { code, oom_killed, .. }) => {
                let cause = if *oom_killed { ": out of memory" } else { "" };
                (TaskState::Failed, "started", format!("task: non-zero exit ({code}){cause}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect;
    use secretd_proto::id::TaskId;
    use secretd_proto::shim::{Failure, Step};

    use super::*;

    #[test]
    fn each_end_is_told_in_dockers_words() {
        let exit = |code, oom_killed| Exit { code, oom_killed, at_unix_nanos: 0 };
        let task = TaskId::from_random([0; 16]);
        let failure = Failure { step: Step::State, message: "it is gone".to_owned() };
        let ends = [
            End::Shutdown(None),
            End::Shutdown(Some(exit(143, false))),
            End::Rejected("No such image: app:1".to_owned()),
            End::Failed("starting container failed: exec".to_owned()),
            End::Exited(exit(0, false)),
            End::Exited(exit(3, false)),
            End::Exited(exit(137, true)),
            End::lost(&ContainerError::ShimGone(task)),
            End::lost(&failure.into()),
        ];
        let mut table = String::new();
        for (state, message, error) in ends.iter().map(End::told) {
            writeln!(table, "{} | {message} | {error}", state.word()).unwrap();
        }

        expect![[r#"
            Shutdown | shutdown | 
            Shutdown | shutdown | 
            Rejected | preparing | No such image: app:1
            Failed | started | starting container failed: exec
            Complete | finished | 
            Failed | started | task: non-zero exit (3)
            Failed | started | task: non-zero exit (137): out of memory
            Failed | started | the container was lost: its shim has died
            Failed | started | it is gone
        "#]]
        .assert_eq(&table);
    }
}
