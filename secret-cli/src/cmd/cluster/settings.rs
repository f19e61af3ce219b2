//! What operators can set of a cluster, at its foundation and later.

use std::time::Duration;

use clap::Args;
use secretd_proto::v1::{ClusterSpec, UpdateClusterRequest};

use crate::parse::duration;

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// How long certificates of nodes count [default: 2160h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    cert_expiry: Option<Duration>,
    /// How often nodes call; one is down after three times as long [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    dispatcher_heartbeat: Option<Duration>,
    /// Ended tasks that are kept for each slot [default: 5]
    #[arg(long, value_name = "N")]
    task_history_limit: Option<u32>,
}

fn wire(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| prost_types::Duration::try_from(duration).ok())
}

impl Settings {
    pub(crate) fn is_empty(&self) -> bool {
        self.cert_expiry.is_none() && self.dispatcher_heartbeat.is_none() && self.task_history_limit.is_none()
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
