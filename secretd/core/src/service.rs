//! Services: what a user wants to run.

use std::collections::BTreeMap;
use std::time::Duration;

use secretd_proto::id::{SecretId, ServiceId};
use secretd_proto::name::{SecretName, ServiceName};

use crate::placement::Placement;
use crate::secret::SecretVersion;
use crate::time::{Meta, Timestamp, Version};

/// What a user says of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Unique in the cluster, and never changed.
    pub name: ServiceName,
    /// Labels of the service; changing them replaces no task.
    pub labels: BTreeMap<String, String>,
    /// What each task runs.
    pub task: TaskSpec,
    /// How many tasks.
    pub mode: ServiceMode,
    /// How tasks are replaced when `task` changes.
    pub update: UpdateConfig,
}

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceMode {
    /// A number of tasks, in slots 1 to `replicas`.
    Replicated {
        /// May be 0.
        replicas: u64,
    },
    /// One on each node that may have one. A slot stays on its node.
    Global,
}

/// How tasks are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateConfig {
    /// Slots replaced at a time; 0 is all.
    pub parallelism: u64,
    /// Between one batch and the next.
    pub delay: Duration,
    /// Which of old and new comes first.
    pub order: UpdateOrder,
    /// When a new task fails.
    pub failure_action: FailureAction,
    /// How long a new task is watched for failure.
    pub monitor: Duration,
}

impl Default for UpdateConfig {
    /// Docker's defaults.
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            order: UpdateOrder::StopFirst,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
        }
    }
}

/// Which of the old and the new task comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOrder {
    /// The old one stops, then the new one starts.
    StopFirst,
    /// The new one runs, then the old one stops.
    StartFirst,
}

/// What happens when an updated task fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAction {
    /// The update stops and says so.
    Pause,
    /// The update goes on.
    Continue,
    /// The service goes back to its previous specification.
    Rollback,
}

/// What one task runs. Any difference in it replaces the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// The container.
    pub container: ContainerSpec,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Limits and reservations.
    pub resources: Resources,
    /// Counts `service update --force`.
    pub force_update: u64,
    /// Where its output goes.
    pub log: LogConfig,
    /// Which network it has.
    pub network: NetworkMode,
    /// Where it may run. A difference in it alone replaces no task that is where it may be.
    pub placement: Placement,
}

/// Which network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own, with loopback alone.
    None,
    /// The node's.
    Host,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// As the user wrote it.
    pub image: String,
    /// Replaces the image's entrypoint when not empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// `K=V`.
    pub env: Vec<String>,
    /// Absolute; empty for the image's.
    pub workdir: String,
    /// Name or uid, optionally `:group`; empty for the image's.
    pub user: String,
    /// Supplementary groups, names or gids.
    pub groups: Vec<String>,
    /// Empty for the task's id, shortened.
    pub hostname: String,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// Volumes, binds and tmpfs.
    pub mounts: Vec<Mount>,
    /// Secrets it may read.
    pub secrets: Vec<SecretGrant>,
    /// Whether its root is read-only.
    pub read_only: bool,
    /// Whether an init process reaps for it.
    pub init: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// Name or number; empty for the image's, else SIGTERM.
    pub stop_signal: String,
    /// Until SIGKILL.
    pub stop_grace_period: Duration,
    /// Beyond the default set: `CAP_…` or `ALL`.
    pub cap_add: Vec<String>,
    /// Out of the default set: `CAP_…` or `ALL`.
    pub cap_drop: Vec<String>,
    /// Further lines of /etc/hosts: `IP NAME`.
    pub hosts: Vec<String>,
    /// Resource limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
}

/// A resource limit (setrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Without `RLIMIT_`, in lower case: `nofile`.
    pub name: String,
    /// -1 for none.
    pub soft: i64,
    /// -1 for none.
    pub hard: i64,
}

/// One secret of a service's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    /// Which.
    pub secret: SecretId,
    /// Its name when the grant was made.
    pub name: SecretName,
    /// A file name, a path below `/run/secrets`, or an absolute path.
    pub target: String,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
    /// Permission bits, at most 0777.
    pub mode: u32,
    /// `None` follows the latest version.
    pub pinned: Option<SecretVersion>,
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Absolute path in the container.
    pub target: String,
    /// Whether the container may write.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A named volume of the node, made on first use; empty name: anonymous.
    Volume {
        /// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`
        name: String,
        /// Whether the image's files at the target are left out of a new volume.
        nocopy: bool,
        /// Labels of a volume that is made.
        labels: BTreeMap<String, String>,
    },
    /// A path of the node.
    Bind {
        /// Absolute; must exist.
        source: String,
        /// `rprivate` (default), `private`, `rshared`, `shared`, `rslave`, `slave`.
        propagation: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; 0 for half of the memory.
        size: u64,
        /// Permission bits; 0 for 01777.
        mode: u32,
    },
}

/// What happens when a task ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Which ends are followed by a new task.
    pub condition: RestartCondition,
    /// Before the new task starts.
    pub delay: Duration,
    /// Within the window; 0 for no limit.
    pub max_attempts: u64,
    /// Zero for no window.
    pub window: Duration,
}

impl Default for RestartPolicy {
    /// Docker's defaults.
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: 0,
            window: Duration::ZERO,
        }
    }
}

/// Which ends of a task are followed by a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartCondition {
    /// Every end.
    Any,
    /// An exit code other than 0.
    OnFailure,
    /// None.
    None,
}

/// Limits and reservations; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// Limit, in billionths of a processor.
    pub nano_cpus: i64,
    /// Limit, in bytes.
    pub memory_bytes: i64,
    /// Limit of processes and threads.
    pub pids: i64,
    /// Reservation, in billionths of a processor.
    pub reserve_nano_cpus: i64,
    /// Reservation, in bytes.
    pub reserve_memory_bytes: i64,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// `json-file`, `none`, or empty for `json-file`.
    pub driver: String,
    /// json-file: `max-size` (bytes, with k, m or g), `max-file`.
    pub options: BTreeMap<String, String>,
}

/// A service as the cluster records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// When, and as which accepted change.
    pub meta: Meta,
    /// What is wanted.
    pub spec: ServiceSpec,
    /// What was wanted before, for a rollback.
    pub previous_spec: Option<ServiceSpec>,
    /// How the replacement of tasks goes.
    pub update_status: Option<UpdateStatus>,
    /// `meta.version` at which `spec.task` last changed.
    pub spec_version: Version,
}

/// How the replacement of a service's tasks goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateStatus {
    /// How far it is.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// One line for people.
    pub message: String,
}

/// How far the replacement of a service's tasks is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateState {
    /// Under way.
    Updating,
    /// Stopped by a failure.
    Paused,
    /// Done.
    Completed,
    /// Going back.
    RollbackStarted,
    /// Going back was stopped by a failure.
    RollbackPaused,
    /// Gone back.
    RollbackCompleted,
}
