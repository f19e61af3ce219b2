//! What secretd and the shims say to secret-fs.
//!
//! Transport: a Unix stream socket whose listening end secret-fs inherits. A frame is a little-endian `u32` length, then
//! that many bytes of postcard; a descriptor (SCM_RIGHTS) travels with the first byte of the frame that names it. Each
//! [`Request`] gets one [`Response`], in order. secret-fs accepts root alone (SO_PEERCRED); [`Request::Attach`] and
//! [`Request::Fill`] make the peer's process the shim of that task.
//!
//! Ciphertext and wrapped keys cross this socket; plaintext never does.

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, NodeId, SecretId, TaskId};
use crate::name::SecretName;

/// Refused when the two ends disagree.
pub const PROTOCOL: u16 = 2;

/// The inode directory, below the root of a task's filesystem, that is mounted on `/run/secrets`.
pub const SECRETS_DIRECTORY: &str = "secrets";

/// The directory of the single files that are mounted on absolute targets. Each is named by a hash of its path: grants
/// come and go, and a file must keep its name.
pub const ABSOLUTE_DIRECTORY: &str = "absolute";

/// A symbolic link beside the secrets that is renamed into place after each change, as Kubernetes' volumes do, so that
/// watchers of the directory get MOVED_TO.
pub const DATA_LINK: &str = "..data";

/// The name that [`DATA_LINK`] has before it is renamed into place.
pub const DATA_LINK_NEW: &str = "..data_tmp";

/// Where one secret appears in a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// A path below `/run/secrets`, of normal components only (`db/password`).
    Relative(String),
    /// An absolute path, outside `/run/secrets`, where the shim mounts the file.
    Absolute(String),
}

/// One secret version that one task may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose secret.
    pub secret: SecretId,
    /// Its name: bound by the seals, not a path.
    pub name: SecretName,
    /// Which payload.
    pub version: u64,
    /// Bytes of plaintext.
    pub length: u32,
    /// Where it appears.
    pub target: Target,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// Permission bits, at most 0777.
    pub mode: u32,
    /// Grows whenever a grant is made anew; an older one is refused.
    pub epoch: u64,
    /// The data key, wrapped to this run of secret-fs (HPKE).
    pub wrapped_dek: Vec<u8>,
}

/// What secret-fs is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on each connection.
    Hello {
        /// [`PROTOCOL`].
        protocol: u16,
    },
    /// Keeps the ciphertext of one secret version until a grant opens it or [`Request::Forget`] drops it.
    Store {
        /// Whose payload.
        secret: SecretId,
        /// Which.
        version: u64,
        /// AES-256-GCM ciphertext with its tag.
        ciphertext: Vec<u8>,
    },
    /// Drops a stored ciphertext, and the plaintext if no grant uses it.
    Forget {
        /// Whose payload.
        secret: SecretId,
        /// Which.
        version: u64,
    },
    /// Makes the secrets of one task: all or none of them. Publishing again replaces the set.
    Publish {
        /// Whose secrets.
        task: TaskId,
        /// Bound by the seals.
        cluster: ClusterId,
        /// Bound by the grants.
        node: NodeId,
        /// What the task may read.
        grants: Vec<Grant>,
    },
    /// Gives files that exist a new version; open files keep theirs. What is published and not among the grants is
    /// withdrawn, from open files too. The shim is told afterwards, so that it can wake the watchers.
    Update {
        /// Whose secrets.
        task: TaskId,
        /// All that is granted, each for a target that is published.
        grants: Vec<Grant>,
    },
    /// Ends all reading of the task's secrets, open files included, and wipes what nobody else uses. Idempotent.
    Retract {
        /// Whose secrets.
        task: TaskId,
    },
    /// From a shim, with the descriptor of `/dev/fuse` that it has mounted: serve the task's secrets there. Answered
    /// once the first request (FUSE_INIT) is through. Again after a restart of secret-fs, with a new mount.
    Attach {
        /// Whose secrets.
        task: TaskId,
        /// The task's control group as /proc/PID/cgroup shows it in every process of the container: lines that must be
        /// equal, or a prefix up to a slash (a child group).
        cgroup: CgroupPaths,
    },
    /// From a shim whose node has no FUSE, with one descriptor of an empty file in the task's tmpfs: write the
    /// payload of that target there.
    Fill {
        /// Whose secrets.
        task: TaskId,
        /// Which file.
        target: Target,
    },
    /// The watchers of these targets were told of the changes that the last [`Request::Update`] was answered with. Until
    /// then each update is answered with them again.
    Woken {
        /// Whose secrets.
        task: TaskId,
        /// Which files.
        targets: Vec<Target>,
    },
    /// Which tasks are published, and how this process is protected.
    Status,
    /// Writes the audit records from now on to the descriptor that comes along (opened for appending).
    AuditTo,
}

/// The lines of `/proc/PID/cgroup` that tell a container's processes from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// One controller list (empty for version 2) and path each, as in the file: `("memory", "/secretd/TASK")`.
    pub lines: Vec<(String, String)>,
}

/// The answer to one [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Hello`].
    Hello {
        /// [`PROTOCOL`] of the other end.
        protocol: u16,
        /// The X25519 key to which this run's grants are wrapped.
        public_key: [u8; 32],
    },
    /// Done.
    Done,
    /// To [`Request::Publish`] and [`Request::Update`]: done.
    Changed {
        /// The targets whose bytes are new or gone, and of which no [`Request::Woken`] has told.
        targets: Vec<Target>,
        /// Whether a mount of the task is served.
        attached: bool,
    },
    /// To [`Request::Status`].
    Status(Status),
    /// Refused; nothing has changed.
    Refused(Refusal),
}

/// How a run of secret-fs is protected, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What is published.
    pub tasks: Vec<PublishedTask>,
    /// Bytes of plaintext held.
    pub payload_bytes: u64,
    /// `memfd_secret`, `mlock` or `unlocked`.
    pub memory: String,
    /// What is in force: `seccomp`, `landlock`, `no-new-privs`, `not-dumpable`, `no-core`, `unprivileged`.
    pub sandbox: Vec<String>,
    /// One line for each protection that this kernel lacks.
    pub weaknesses: Vec<String>,
    /// Opens since the start: allowed, refused.
    pub opens: (u64, u64),
}

/// One task in [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTask {
    /// Which.
    pub task: TaskId,
    /// Whether a mount is attached.
    pub attached: bool,
    /// Secret, version and epoch of each file.
    pub grants: Vec<(SecretId, u64, u64)>,
}

/// Why secret-fs refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The ends speak different protocols.
    #[error("secret-fs speaks protocol {0}: install the secret-fs of the same release as secretd")]
    Protocol(u16),
    /// The peer is not root, another mount of the task is served, or this node fills no files.
    #[error("the peer is not allowed to do this")]
    NotAllowed,
    /// The audit log takes no record.
    #[error("the audit log cannot be written: free some space on the disk of the data directory")]
    NotRecorded,
    /// No such task is published.
    #[error("task {0} has no published secrets")]
    UnknownTask(TaskId),
    /// The ciphertext was not stored before.
    #[error("version {1} of secret {0} was not stored")]
    NotStored(SecretId, u64),
    /// A seal did not open: wrong key, wrong binding, or changed bytes.
    #[error("version {1} of secret {0} does not open: its seal is broken or was made for another place")]
    BrokenSeal(SecretId, u64),
    /// A grant's epoch is older than one seen before.
    #[error("the grant of secret {0} is out of date (epoch {1})")]
    OldEpoch(SecretId, u64),
    /// Two grants have one target, or a target is not allowed.
    #[error("target `{0}` is taken or not allowed")]
    Target(String),
    /// There is not enough locked memory.
    #[error("no locked memory for {0} bytes: raise RLIMIT_MEMLOCK of secret-fs")]
    NoMemory(u64),
    /// The request needs a descriptor and came without one, or the descriptor does not work.
    #[error("the descriptor is missing or does not work: {0}")]
    Descriptor(String),
    /// The frame could not be read as a request.
    #[error("not a request")]
    Malformed,
}

/// Why a text is no target of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid secret target `{0}`: give a file name, a path below /run/secrets, or an absolute path, without `.`, `..` or empty parts"
)]
pub struct ParseTargetError(pub String);

impl Target {
    /// The target that a user's text means.
    ///
    /// # Errors
    /// When the text has empty parts, `.` or `..`, is longer than 4,095 bytes, or a part below `/run/secrets` begins
    /// with `..` (such names are ours).
    pub fn parse(text: &str) -> Result<Self, ParseTargetError> {
        let refused = || ParseTargetError(text.chars().take(256).collect());
        let normal = |path: &str| {
            path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
                && !path.contains('\0')
        };
        if text.len() > 4095 {
            return Err(refused());
        }
        let relative = match text.strip_prefix("/run/secrets/") {
            Some(below) => below,
            None => match text.strip_prefix('/') {
                Some(path) if normal(path) && path != "run/secrets" => {
                    return Ok(Self::Absolute(text.to_owned()));
                }
                Some(_) => return Err(refused()),
                None => text,
            },
        };
        if normal(relative) && !relative.split('/').any(|part| part.starts_with("..")) {
            Ok(Self::Relative(relative.to_owned()))
        } else {
            Err(refused())
        }
    }

    /// The path of the file below the root of the task's filesystem.
    pub fn path_in_filesystem(&self) -> String {
        match self {
            Self::Relative(path) => format!("{SECRETS_DIRECTORY}/{path}"),
            Self::Absolute(path) => format!("{ABSOLUTE_DIRECTORY}/{:016x}", hash(path)),
        }
    }

    /// The absolute path of the file in the container: two grants of a task may not share it.
    pub fn path_in_container(&self) -> String {
        match self {
            Self::Relative(path) => format!("/run/secrets/{path}"),
            Self::Absolute(path) => path.clone(),
        }
    }
}

/// 64-bit FNV-1a, <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>. Of two paths of a task with one hash,
/// secret-fs refuses the second.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_paths_and_absolute_paths() {
        assert_eq!(Target::parse("pw"), Ok(Target::Relative("pw".into())));
        assert_eq!(Target::parse("db/pw"), Ok(Target::Relative("db/pw".into())));
        assert_eq!(Target::parse("/run/secrets/pw"), Ok(Target::Relative("pw".into())));
        assert_eq!(Target::parse("/etc/pw"), Ok(Target::Absolute("/etc/pw".into())));
        for bad in [
            "",
            "/",
            "a//b",
            "../a",
            "a/../b",
            "./a",
            "/etc/../a",
            "/run/secrets",
            "/run/secrets/",
            "..data",
            "a/",
            "a\0",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_of_absolute_targets_are_named_by_their_paths() {
        // The test vectors of the draft, appendix C: "" and "foobar".
        assert_eq!((hash(""), hash("foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
        let name = |path: &str| Target::parse(path).unwrap().path_in_filesystem();
        assert_eq!(name("/etc/pw"), name("/etc/pw"));
        assert_ne!(name("/etc/pw"), name("/etc/px"));
    }
}
