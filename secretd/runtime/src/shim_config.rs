//! What the runtime tells a shim: one file, `shim.json`, in the task's run directory.
//!
//! It names secrets' targets and holds the container's environment, so it lies in the run directory alone, readable by
//! root. The shim outlives the secretd that wrote it: fields may be added with a default, never changed.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::fs::Target;
use secretd_proto::id::TaskId;
use serde::{Deserialize, Serialize};

/// The file's name in the task's run directory.
pub const FILE: &str = "shim.json";

/// The shim's socket, in the task's run directory.
pub const SOCKET: &str = "shim.sock";

/// The shim's process id as text, in the task's run directory.
pub const PID_FILE: &str = "shim.pid";

/// Everything that one container is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimConfig {
    /// Whose container.
    pub task: TaskId,
    /// The image's id, which is kept as long as the container is there.
    pub image: String,
    /// The image's stop signal; empty for SIGTERM.
    pub stop_signal: String,
    /// Its root filesystem.
    pub rootfs: Overlay,
    /// What runs in it.
    pub process: Process,
    /// Further mounts, targets absolute.
    pub mounts: Vec<MountPlan>,
    /// Whether the root is read-only.
    pub read_only: bool,
    /// The host name in the container; ignored with the host's network.
    pub hostname: String,
    /// Further lines of /etc/hosts: `IP NAME`.
    pub hosts: Vec<String>,
    /// Whether it has the node's network instead of its own loopback.
    pub host_network: bool,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Control group, below each hierarchy's root: `/secretd/TASK`.
    pub cgroup: String,
    /// Limits.
    pub limits: Limits,
    /// Secrets, where it has any.
    pub secrets: Option<SecretsPlan>,
    /// Where its output goes.
    pub log: LogPlan,
}

/// An overlayfs: read-only layers below one that the container writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Unpacked layers, topmost first.
    pub lower: Vec<Utf8PathBuf>,
    /// What the container writes.
    pub upper: Utf8PathBuf,
    /// For the kernel, beside `upper`.
    pub work: Utf8PathBuf,
}

/// What runs in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments, image and service taken together.
    pub args: Vec<String>,
    /// `K=V`, image and service taken together.
    pub env: Vec<String>,
    /// Absolute; made where it does not exist.
    pub workdir: String,
    /// Name or uid, optionally `:group`; empty for root.
    pub user: String,
    /// Supplementary groups: names or gids.
    pub groups: Vec<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether the first process reaps and forwards signals for the program.
    pub init: bool,
    /// Whether setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// Beyond the default set.
    pub cap_add: Vec<String>,
    /// Out of the default set.
    pub cap_drop: Vec<String>,
    /// setrlimit(2): name without `RLIMIT_` in lower case, soft, hard; -1 for none.
    pub ulimits: Vec<(String, i64, i64)>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Whether the container may write.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the node.
    Path {
        /// Absolute.
        path: Utf8PathBuf,
        /// `rprivate` and the like.
        propagation: String,
        /// Whether the image's files at the target are copied into it first: it is a new volume.
        populate: bool,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; 0 for the kernel's default.
        size: u64,
        /// Permission bits.
        mode: u32,
    },
}

/// Limits; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Processes and threads.
    pub pids: i64,
}

/// How a container gets its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsPlan {
    /// The socket of secret-fs.
    pub socket: Utf8PathBuf,
    /// What serves them.
    pub backend: Backend,
    /// The files.
    pub files: Vec<SecretFile>,
}

/// What serves a container's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// secret-fs, read by read.
    Fuse,
    /// A memory filesystem that secret-fs fills once for each version: tmpfs without swap, or ramfs.
    Memory,
}

/// One file of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    /// Where it appears.
    pub target: Target,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// The directory of `log.json`; none for no log.
    pub directory: Option<Utf8PathBuf>,
    /// Bytes after which a new file begins.
    pub max_size: u64,
    /// Files that are kept, the current one included.
    pub max_files: u32,
}

/// Why a shim's configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not readable.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// It is none of ours.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl ShimConfig {
    /// Reads the configuration of the task whose run directory this is.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(task_dir: &Utf8Path) -> Result<Self, LoadError> {
        let path = task_dir.join(FILE);
        let text = std::fs::read(&path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|source| LoadError::Parse { path, source })
    }
}
