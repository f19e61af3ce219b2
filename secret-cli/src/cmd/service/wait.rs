//! Waits until a service is as it is wanted, and shows how far it is.
//!
//! Progress goes to standard error; standard output has ids alone.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use secretd_proto::v1::{Service, WatchServiceRequest, WatchServiceResponse};
use tonic::Streaming;

use super::options::Waiting;
use crate::connection::Control;
use crate::converge::{Progress, State, progress};
use crate::failure::Failure;
use crate::human;
use crate::output;

/// What the caller has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The specification that was sent: going back from it is a failure.
    Forward,
    /// The one before.
    Back,
}

/// Slots that have a line of their own on a terminal.
const MAX_LINES: u64 = 20;

/// Waits for the service `id`, unless told to detach, until it has been as wanted for its `--update-monitor`.
pub(super) async fn converge(control: &mut Control, id: &str, waiting: Waiting, goal: Goal) -> Result<u8, Failure> {
    if waiting.detach {
        return Ok(0);
    }
    let updates = control.watch_service(WatchServiceRequest { id: id.to_owned() }).await?.into_inner();
    let mut show = Show::new(waiting.quiet);
    let outcome = tokio::select! {
        outcome = follow(updates, &mut show, goal) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    show.finish();
    match outcome {
        Some(outcome) => outcome.map(|()| 0),
        None => {
            output::note(&format!(
                "Operation continuing in background.\nUse `sctl service ps {id}` to check progress."
            ));
            Ok(0)
        }
    }
}

async fn follow(mut updates: Streaming<WatchServiceResponse>, show: &mut Show, goal: Goal) -> Result<(), Failure> {
    let mut stable_until = None;
    loop {
        let update = tokio::select! {
            update = updates.message() => update?,
            () = stable(stable_until) => return Ok(()),
        };
        let Some(WatchServiceResponse { service: Some(service), tasks, desired }) = update else {
            return Err(Failure::failed("the service was removed meanwhile"));
        };
        let name = service.spec.as_ref().map(|spec| spec.name.as_str()).unwrap_or_default();
        let progress = progress(&service, &tasks, desired);
        show.progress(name, &progress);
        match progress.state {
            State::Converged => {
                let monitor = monitor(&service);
                if progress.running == 0 || monitor.is_zero() {
                    return Ok(());
                }
                if stable_until.is_none() {
                    show.line(&format!(
                        "verify: waiting {} for the tasks of {name} to stay up",
                        human::duration(monitor)
                    ));
                    stable_until = Some(tokio::time::Instant::now() + monitor);
                }
            }
            State::RolledBack(_) if goal == Goal::Back => return Ok(()),
            State::RolledBack(message) => {
                return Err(Failure::failed(format!("service {name} was rolled back: {message}")));
            }
            State::Stuck(reason) => {
                return Err(Failure::failed(format!("{reason}; see \"sctl service ps --no-trunc {name}\"")));
            }
            State::Working => stable_until = None,
        }
    }
}

/// How long new tasks are watched for failure.
fn monitor(service: &Service) -> Duration {
    let update = service.spec.as_ref().and_then(|spec| spec.update).unwrap_or_default();
    update.monitor.and_then(|monitor| Duration::try_from(monitor).ok()).unwrap_or_default()
}

async fn stable(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Where progress is shown.
enum Show {
    Quiet,
    /// Each line once.
    Lines(String),
    Bars {
        all: MultiProgress,
        overall: ProgressBar,
        slots: BTreeMap<u64, ProgressBar>,
    },
}

impl Show {
    fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !output::is_watched() {
            return Self::Lines(String::new());
        }
        let all = MultiProgress::new();
        let overall = all.add(ProgressBar::new_spinner().with_style(message()));
        Self::Bars { all, overall, slots: BTreeMap::new() }
    }

    fn progress(&mut self, name: &str, progress: &Progress) {
        let Progress { running, wanted, slots: states, trouble, .. } = progress;
        let line = format!("{name}: {running}/{wanted} running");
        match self {
            Self::Quiet => {}
            Self::Lines(_) => match trouble {
                Some(trouble) => self.line(&format!("{line} ({trouble})")),
                None => self.line(&line),
            },
            Self::Bars { all, overall, slots } => {
                overall.set_message(line);
                for (slot, state) in states.iter().filter(|_| *wanted <= MAX_LINES) {
                    let bar =
                        slots.entry(*slot).or_insert_with(|| all.add(ProgressBar::new_spinner().with_style(message())));
                    bar.set_message(format!("{slot}/{wanted}: {state}"));
                }
            }
        }
    }

    fn line(&mut self, line: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines(last) if last == line => {}
            Self::Lines(last) => {
                output::note(line);
                line.clone_into(last);
            }
            Self::Bars { overall, .. } => overall.set_message(line.to_owned()),
        }
    }

    fn finish(&self) {
        if let Self::Bars { overall, slots, .. } = self {
            for bar in slots.values() {
                bar.abandon();
            }
            overall.abandon();
        }
    }
}

fn message() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}
