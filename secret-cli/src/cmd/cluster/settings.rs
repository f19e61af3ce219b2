//! What operators can set of a cluster, at its foundation and later.

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::{ClusterSpec, UpdateClusterRequest};

use super::absent::Absent;
use crate::parse::duration;

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// How long certificates of nodes count; 2160h in a new cluster
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    cert_expiry: Option<Duration>,
    /// How often nodes call; one is down after three times as long; 1250ms in a new cluster
    #[arg(long, value_name = "DURATION", value_parser = heartbeat, allow_hyphen_values = true)]
    dispatcher_heartbeat: Option<Duration>,
    /// Ended tasks that are kept for each slot; -1 keeps all; 5 in a new cluster
    #[arg(long, value_name = "N", value_parser = history, allow_hyphen_values = true)]
    task_history_limit: Option<u32>,
    #[command(flatten)]
    absent: Absent,
}

/// In Docker's words.
fn heartbeat(text: &str) -> Result<Duration, String> {
    match text.starts_with('-') {
        true => Err("heartbeat time period cannot be a negative duration".to_owned()),
        false => duration::parse(text),
    }
}

/// As in Docker a negative number is no limit: no slot has so many tasks.
fn history(text: &str) -> Result<u32, String> {
    let number: i64 = text.parse().map_err(|_| "give a number of tasks, or -1 for all of them".to_owned())?;
    Ok(if number < 0 { u32::MAX } else { u32::try_from(number).unwrap_or(u32::MAX) })
}

fn wire(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| prost_types::Duration::try_from(duration).ok())
}

impl Settings {
    pub(crate) fn is_empty(&self) -> bool {
        self.cert_expiry.is_none() && self.dispatcher_heartbeat.is_none() && self.task_history_limit.is_none()
    }

    /// Whether certificates of nodes are to count another time.
    pub(crate) fn has_expiry(&self) -> bool {
        self.cert_expiry.is_some()
    }

    /// Of a new cluster.
    pub(crate) fn spec(&self) -> ClusterSpec {
        ClusterSpec {
            task_history_limit: self.task_history_limit,
            heartbeat: wire(self.dispatcher_heartbeat),
            cert_expiry: wire(self.cert_expiry),
            ..ClusterSpec::default()
        }
    }

    /// Changes what is given.
    pub(crate) fn change(&self, request: &mut UpdateClusterRequest) {
        request.task_history_limit = self.task_history_limit;
        request.heartbeat = wire(self.dispatcher_heartbeat);
        request.cert_expiry = wire(self.cert_expiry);
    }
}
