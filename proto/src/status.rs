//! Refusals as gRPC tells them: a status that carries one of our codes.

use tonic::metadata::MetadataValue;
use tonic::{Code as Grpc, Status};

use crate::code::{Class, Code, METADATA_KEY};

/// A status of `code` that says `message`: every service answers with these.
pub fn status(code: Code, message: impl Into<String>) -> Status {
    let mut status = Status::new(grpc(code), message);
    status.metadata_mut().insert(METADATA_KEY, MetadataValue::from_static(code.as_str()));
    status
}

fn grpc(code: Code) -> Grpc {
    match code {
        Code::PermissionDenied | Code::NodeRemoved | Code::RootReplaced | Code::NotOnRecord => Grpc::PermissionDenied,
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
        | Code::NotLeader
        | Code::Locked
        | Code::NotManager
        | Code::Storage
        | Code::RolledBack
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
