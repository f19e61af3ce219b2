//! How a call is refused: a stable code and one line, which become a gRPC status in one place.
//!
//! Every operation has its own typed error; each of them says which [`Code`] it is, so that callers may match on codes
//! and never on texts.

use secretd_proto::code::{Class, Code, METADATA_KEY};
use tonic::metadata::MetadataValue;
use tonic::{Code as Grpc, Status};

/// A refused call: what callers match, and one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// Stable; sctl's exit code comes from it.
    pub(crate) code: Code,
    /// What, why and what to do, in one line.
    pub(crate) message: String,
}

impl Refusal {
    /// A refusal of `code` that says `message`.
    pub(crate) fn new(code: Code, message: impl std::fmt::Display) -> Self {
        let message = message.to_string().replace(['\n', '\r'], " ");
        Self { code, message }
    }

    /// A field of the request breaks a rule.
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// This node is not part of a cluster yet.
    pub(crate) fn not_initialized() -> Self {
        Self::new(Code::NotInitialized, "this node is not part of a cluster: run \"sctl cluster init\"")
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(grpc(refusal.code), refusal.message);
        status.metadata_mut().insert(METADATA_KEY, MetadataValue::from_static(refusal.code.as_str()));
        status
    }
}

fn grpc(code: Code) -> Grpc {
    match code {
        Code::PermissionDenied => Grpc::PermissionDenied,
        Code::NameConflict | Code::AlreadyInitialized => Grpc::AlreadyExists,
        Code::OutOfSequence => Grpc::Aborted,
        Code::StorageFull => Grpc::ResourceExhausted,
        Code::Corrupt => Grpc::DataLoss,
        Code::Unsupported => Grpc::Unimplemented,
        Code::Internal => Grpc::Internal,
        Code::InvalidArgument
        | Code::NotFound
        | Code::Ambiguous
        | Code::InUse
        | Code::NotInitialized
        | Code::NoQuorum
        | Code::Storage
        | Code::RemoteUnreachable
        | Code::RemoteDenied
        | Code::NotRunning => match code.class() {
            Class::Invalid => Grpc::InvalidArgument,
            Class::NotFound => Grpc::NotFound,
            Class::Unreachable => Grpc::Unavailable,
            Class::Conflict | Class::Failed => Grpc::FailedPrecondition,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_carries_the_code_and_one_line() {
        let status = Status::from(Refusal::new(Code::InUse, "secret 'a'\nis in use"));

        assert_eq!(status.code(), Grpc::FailedPrecondition);
        assert_eq!(status.message(), "secret 'a' is in use");
        assert_eq!(status.metadata().get(METADATA_KEY).unwrap(), "in-use");
    }
}
