//! How a call is refused: a stable code and one line, which become a gRPC status in one place.
//!
//! Every operation has its own typed error; each of them says which [`Code`] it is, so that callers may match on codes
//! and never on texts.

use secretd_core::wire::WireError;
use secretd_proto::code::{Code, LEADER_KEY};
use secretd_proto::name::{SecretName, ServiceName};
use secretd_proto::status::status;
use secretd_store::{Conflict, Member, ObjectKind, ProposeError};
use tonic::Status;

/// A refused call: what callers match, and one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable; sctl's exit code comes from it.
    pub code: Code,
    /// What, why and what to do, in one line.
    pub message: String,
    /// With [`Code::NotLeader`]: where the leader is.
    leader: Option<String>,
}

impl Refusal {
    /// A refusal of `code` that says `message`.
    pub fn new(code: Code, message: impl std::fmt::Display) -> Self {
        let message = message.to_string().replace(['\n', '\r'], " ");
        Self { code, message, leader: None }
    }

    /// A field of the request breaks a rule.
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Another manager serves this.
    pub(crate) fn not_leader(leader: Option<&Member>) -> Self {
        let leader_address = leader.map(|leader| leader.address.clone());
        let message = match leader {
            Some(leader) => format!("manager {leader} leads: repeat the command"),
            None => "no manager leads yet: repeat the command".to_owned(),
        };
        Self { leader: leader_address, ..Self::new(Code::NotLeader, message) }
    }

    /// This node is not part of a cluster yet.
    pub(crate) fn not_initialized() -> Self {
        Self::new(Code::NotInitialized, "this node is not part of a cluster: run \"sctl cluster init\"")
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = status(refusal.code, refusal.message);
        if let Some(leader) = refusal.leader.and_then(|leader| leader.parse().ok()) {
            status.metadata_mut().insert(LEADER_KEY, leader);
        }
        status
    }
}

/// An error of the store, in Docker's words where Docker has them.
impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Conflict(conflict) => conflict.into(),
            ProposeError::PayloadLength { .. } => Self::invalid(error),
            ProposeError::Full => Self::new(Code::StorageFull, error),
            ProposeError::Storage(_) => Self::new(Code::Storage, with_causes(&error)),
            ProposeError::Closed => {
                Self::new(Code::Storage, "this manager is stopping: repeat the command, here or on another manager")
            }
            ProposeError::NotLeader(leader) => Self::not_leader(leader.as_ref()),
            ProposeError::NoQuorum { .. } | ProposeError::Undecided(_) | ProposeError::Superseded => {
                Self::new(Code::NoQuorum, error)
            }
        }
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::AlreadyInitialized => {
                Self::new(Code::AlreadyInitialized, "this node is already part of a cluster")
            }
            Conflict::NotInitialized => Self::not_initialized(),
            Conflict::NameTaken { kind: ObjectKind::Service, name } => Self::new(
                Code::NameConflict,
                format!("name conflicts with an existing object: service {name} already exists"),
            ),
            Conflict::NameTaken { kind, name } => {
                Self::new(Code::NameConflict, format!("{kind} {name} already exists"))
            }
            Conflict::IdTaken { kind, id } => {
                Self::new(Code::NameConflict, format!("{kind} with the id {id} already exists"))
            }
            Conflict::NotFound { kind, id } => Self::new(Code::NotFound, format!("{kind} {id} not found")),
            Conflict::GrantedSecretMissing { name, .. } => {
                Self::invalid(format!("secret not found: {name} (--secret)"))
            }
            Conflict::PinnedVersionMissing { .. } | Conflict::NameChanged { .. } => Self::invalid(conflict),
            Conflict::OutOfSequence { .. } => Self::new(
                Code::OutOfSequence,
                "update out of sequence: the service has changed since it was read, read it again and repeat the update",
            ),
            Conflict::SecretOutOfSequence { expected, actual, .. } => Self::new(
                Code::OutOfSequence,
                format!(
                    "update out of sequence: the secret is at version {}, not {}: read it again and repeat the update",
                    actual.0, expected.0
                ),
            ),
            Conflict::Changed { .. } => Self::new(Code::OutOfSequence, conflict),
            Conflict::TooManyOperators { .. } => Self::new(Code::InUse, conflict),
            Conflict::JoinToken(_) => Self::new(Code::PermissionDenied, conflict),
            Conflict::SecretInUse { name, services } => Self::new(Code::InUse, in_use(&name, &services)),
            Conflict::TaskRegression { .. } | Conflict::NotAtNode { .. } | Conflict::NotAssignable { .. } => {
                Self::new(Code::OutOfSequence, conflict)
            }
        }
    }
}

/// An error and what caused it, as one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

fn in_use(name: &SecretName, services: &[ServiceName]) -> String {
    let list: Vec<&str> = services.iter().map(ServiceName::as_str).collect();
    let noun = if services.len() == 1 { "service" } else { "services" };
    format!("secret '{name}' is in use by the following {noun}: {}", list.join(", "))
}

/// A field of the request that is no value of its kind.
impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        // What is wrong with a name says so itself.
        if error.field == "name" { Self::invalid(error.reason) } else { Self::invalid(error) }
    }
}

#[cfg(test)]
mod tests {
    use secretd_proto::code::METADATA_KEY;
    use secretd_proto::id::NodeId;
    use tonic::Code as Grpc;

    use super::*;

    #[test]
    fn errors_of_the_store_have_codes_and_causes() {
        use std::sync::Arc;
        let source = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        let failure = secretd_store::StorageFailure::Io { step: "append to the log", source };
        let shown = |error: ProposeError| {
            let refusal = Refusal::from(error);
            format!("{}: {}", refusal.code.as_str(), refusal.message)
        };

        expect_test::expect![
            "storage-full: the disk that holds the data directory is full (8 MiB are kept free on it): free some space and repeat"
        ]
        .assert_eq(&shown(ProposeError::Full));
        let missing = Member { node: NodeId::from_random([0; 16]), address: "10.0.0.2:7377".to_owned() };
        expect_test::expect![
            "no-quorum: 1 of 2 managers answer, 2 are needed: start 0000000000000000000000000 (10.0.0.2:7377)"
        ]
        .assert_eq(&shown(ProposeError::NoQuorum { reachable: 1, voters: 2, missing: vec![missing.clone()] }));
        let missing = ProposeError::NoQuorum { reachable: 1, voters: 2, missing: vec![missing] };
        expect_test::expect![
            "no-quorum: 1 of 2 managers answer, 2 are needed: start 0000000000000000000000000 (10.0.0.2:7377); whether the change was made is not known: look, and repeat it"
        ]
        .assert_eq(&shown(ProposeError::Undecided(Box::new(missing))));
        expect_test::expect!["storage: the store failed and takes no more writes: repair the cause and start secretd again: append to the log: read-only filesystem or storage medium"]
            .assert_eq(&shown(ProposeError::Storage(Arc::new(failure))));
        expect_test::expect!["storage: this manager is stopping: repeat the command, here or on another manager"]
            .assert_eq(&shown(ProposeError::Closed));
    }

    #[test]
    fn status_carries_the_code_and_one_line() {
        let status = Status::from(Refusal::new(Code::InUse, "secret 'a'\nis in use"));

        assert_eq!(status.code(), Grpc::FailedPrecondition);
        assert_eq!(status.message(), "secret 'a' is in use");
        assert_eq!(status.metadata().get(METADATA_KEY).unwrap(), "in-use");
    }
}
