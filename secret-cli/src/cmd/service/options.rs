//! The flags that `service create` and `service update` share, and what each sets in a specification.

pub(super) mod apply;

use std::time::Duration;

use clap::{Args, ValueEnum};
use secretd_proto::v1::NetworkMode;
use secretd_proto::v1::restart_policy::Condition;
use secretd_proto::v1::update_config::{FailureAction, Order};

use crate::parse::{duration, key_value, number, shell_words};

/// Words of one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

pub(super) fn words(text: &str) -> Result<Words, String> {
    shell_words::split(text).map(Words)
}

/// When a task that has ended is followed by another.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RestartCondition {
    None,
    OnFailure,
    Any,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UpdateOrder {
    StartFirst,
    StopFirst,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UpdateFailureAction {
    Pause,
    Continue,
    Rollback,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Network {
    None,
    Host,
}

impl From<RestartCondition> for Condition {
    fn from(condition: RestartCondition) -> Self {
        match condition {
            RestartCondition::None => Self::None,
            RestartCondition::OnFailure => Self::OnFailure,
            RestartCondition::Any => Self::Any,
        }
    }
}

impl From<UpdateOrder> for Order {
    fn from(order: UpdateOrder) -> Self {
        match order {
            UpdateOrder::StartFirst => Self::StartFirst,
            UpdateOrder::StopFirst => Self::StopFirst,
        }
    }
}

impl From<UpdateFailureAction> for FailureAction {
    fn from(action: UpdateFailureAction) -> Self {
        match action {
            UpdateFailureAction::Pause => Self::Pause,
            UpdateFailureAction::Continue => Self::Continue,
            UpdateFailureAction::Rollback => Self::Rollback,
        }
    }
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::None => Self::None,
            Network::Host => Self::Host,
        }
    }
}

/// Values that replace what was there.
#[derive(Debug, Default, Args)]
pub(super) struct Scalars {
    /// Number of tasks
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u64>,
    /// Tasks that a node may have at the most; 0 for any number
    #[arg(long, value_name = "NUMBER")]
    replicas_max_per_node: Option<u64>,
    /// User in the container, as NAME|UID[:GROUP|GID]
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// Host name in the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Entrypoint in place of the image's, as a shell would write it
    #[arg(long, value_name = "COMMAND", value_parser = words)]
    entrypoint: Option<Words>,
    /// Let the container only read its root filesystem
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    read_only: Option<bool>,
    /// Run an init process that forwards signals and reaps processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    init: Option<bool>,
    /// Give the container a terminal
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tty: Option<bool>,
    /// Let no program gain privileges, by setuid for example
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    no_new_privileges: Option<bool>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long a container may take to stop before it is killed [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    stop_grace_period: Option<Duration>,
    /// Kernel's preference for killing the container when memory is short, from -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Network of the containers: none but loopback, or the node's own [default: none]
    #[arg(long)]
    network: Option<Network>,
    /// Capability to add; one that was dropped comes back
    #[arg(long = "cap-add", value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Capability to drop; one that was added goes
    #[arg(long = "cap-drop", value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Where the output goes: json-file or none [default: json-file]
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log driver: max-size, max-file
    #[arg(long = "log-opt", value_name = "KEY=VALUE", value_parser = key_value::pair)]
    log_opts: Vec<(String, String)>,
}

/// Limits and reservations.
#[derive(Debug, Default, Args)]
pub(super) struct Limits {
    /// Processors that a task may use
    #[arg(long, value_name = "DECIMAL", value_parser = number::nano_cpus)]
    limit_cpu: Option<i64>,
    /// Memory that a task may use
    #[arg(long, value_name = "BYTES", value_parser = number::bytes)]
    limit_memory: Option<i64>,
    /// Processes that a task may have; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    limit_pids: Option<i64>,
    /// Processors that a node must have free for a task
    #[arg(long, value_name = "DECIMAL", value_parser = number::nano_cpus)]
    reserve_cpu: Option<i64>,
    /// Memory that a node must have free for a task
    #[arg(long, value_name = "BYTES", value_parser = number::bytes)]
    reserve_memory: Option<i64>,
}

/// What happens when tasks end or are replaced.
#[derive(Debug, Default, Args)]
pub(super) struct Policies {
    /// When a task that has ended is followed by another [default: any]
    #[arg(long, value_name = "CONDITION")]
    restart_condition: Option<RestartCondition>,
    /// How long before another task starts [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    restart_delay: Option<Duration>,
    /// Tasks that may follow one another in the window; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    restart_max_attempts: Option<u64>,
    /// Window in which attempts count
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    restart_window: Option<Duration>,
    /// Tasks that are replaced at the same time; 0 for all [default: 1]
    #[arg(long, value_name = "NUMBER")]
    update_parallelism: Option<u64>,
    /// How long between one batch and the next [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    update_delay: Option<Duration>,
    /// Which of the old and the new task comes first [default: stop-first]
    #[arg(long, value_name = "ORDER")]
    update_order: Option<UpdateOrder>,
    /// What happens when a new task fails [default: pause]
    #[arg(long, value_name = "ACTION")]
    update_failure_action: Option<UpdateFailureAction>,
    /// How long new tasks are watched for failure, and the command waits for them to stay up [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    update_monitor: Option<Duration>,
}

/// Whether, and how, to wait.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Waiting {
    /// Do not wait until all tasks run as specified and the ones that they replace are gone
    #[arg(short, long)]
    pub(super) detach: bool,
    /// No progress
    #[arg(short, long)]
    pub(super) quiet: bool,
}
