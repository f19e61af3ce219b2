//! Stable error codes, and what they mean to a caller.
//!
//! A gRPC error carries its code in the metadata key [`METADATA_KEY`]. `sctl` turns a code into its exit code; scripts
//! may match on the code, never on the message.

/// The metadata key of errors with [`Code::NotLeader`]: the leader's address.
pub const LEADER_KEY: &str = "secretd-leader";

/// The metadata key of gRPC errors.
pub const METADATA_KEY: &str = "secretd-code";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// What went wrong, as callers may match it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// The text that crosses the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code of a text, if it is one of ours.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }

            /// Which of the exit codes and gRPC statuses fits.
            pub fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

/// The classes of errors, one for each exit code of `sctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Refused or failed: exit code 1.
    Failed,
    /// The request itself is wrong: exit code 1 from the daemon (2 is for what `sctl` itself refuses as usage).
    Invalid,
    /// Not reachable: exit code 3.
    Unreachable,
    /// Conflict with what exists: exit code 4.
    Conflict,
    /// Not found: exit code 5.
    NotFound,
}

impl Class {
    /// The exit code of `sctl`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Invalid => 1,
            Self::Unreachable => 3,
            Self::Conflict => 4,
            Self::NotFound => 5,
        }
    }
}

codes! {
    /// A field of the request breaks a rule.
    InvalidArgument = "invalid-argument", Invalid;
    /// The caller may not do this.
    PermissionDenied = "permission-denied", Failed;
    /// The named object does not exist.
    NotFound = "not-found", NotFound;
    /// More than one object matches a reference.
    Ambiguous = "ambiguous", Conflict;
    /// The name is taken.
    NameConflict = "name-conflict", Conflict;
    /// The object has changed since the caller read it.
    OutOfSequence = "out-of-sequence", Conflict;
    /// The object is in use.
    InUse = "in-use", Conflict;
    /// This node is not part of a cluster yet.
    NotInitialized = "not-initialized", Failed;
    /// This node is part of a cluster already.
    AlreadyInitialized = "already-initialized", Conflict;
    /// Fewer managers than a majority are reachable.
    NoQuorum = "no-quorum", Unreachable;
    /// Another manager leads, and serves this; the metadata says where it is.
    NotLeader = "not-leader", Unreachable;
    /// This node waits for the unlock key.
    Locked = "locked", Failed;
    /// This node is no manager.
    NotManager = "not-manager", Failed;
    /// A store is older than it was: its data directory was put back to an earlier copy.
    RolledBack = "rolled-back", Failed;
    /// The node was removed from the cluster.
    NodeRemoved = "node-removed", Failed;
    /// The caller's certificate is of a root that was replaced.
    RootReplaced = "root-replaced", Failed;
    /// The operator's certificate is not among those that were made.
    NotOnRecord = "not-on-record", Failed;
    /// The disk is full.
    StorageFull = "storage-full", Failed;
    /// The store failed otherwise.
    Storage = "storage", Failed;
    /// A record or image does not have the bytes that it must have.
    Corrupt = "corrupt", Failed;
    /// A registry or another remote service is not reachable.
    RemoteUnreachable = "remote-unreachable", Failed;
    /// A registry wants other credentials.
    RemoteDenied = "remote-denied", Failed;
    /// The node cannot do what was asked for.
    Unsupported = "unsupported", Failed;
    /// The container is not in a state that allows this.
    NotRunning = "not-running", Conflict;
    /// A defect of secretd.
    Internal = "internal", Failed;
}
