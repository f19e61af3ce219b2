//! Refusals of the node's own services, as the API tells them.

use secretd_proto::code::{Class, Code, METADATA_KEY};
use tonic::Status;

/// A status that carries one of our codes.
pub(crate) fn with_code(code: Code, message: &str) -> Status {
    let grpc = match code.class() {
        Class::Invalid => tonic::Code::InvalidArgument,
        Class::NotFound => tonic::Code::NotFound,
        Class::Conflict => tonic::Code::FailedPrecondition,
        Class::Unreachable => tonic::Code::Unavailable,
        Class::Failed => tonic::Code::Aborted,
    };
    let mut status = Status::new(grpc, message);
    if let Ok(value) = code.as_str().parse() {
        status.metadata_mut().insert(METADATA_KEY, value);
    }
    status
}
