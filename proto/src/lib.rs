//! The wire vocabulary of all processes: ids, names, limits and messages. No IO, no behaviour.
//!
//! Reading order: [`id`] and [`name`] (what things are called), [`limit`] and [`code`] (what is refused, and how), then
//! the three conversations: [`v1`] (gRPC: sctl, managers, agents), [`fs`] (secretd and shims with secret-fs) and
//! [`shim`] (secretd with the shim of one container).
//!
//! Deliberately absent: any type that holds a secret's plaintext, and any decision.

pub mod code;
#[cfg(feature = "grpc")]
pub mod codec;
pub mod fs;
pub mod id;
pub mod limit;
pub mod name;
pub mod shim;
#[cfg(feature = "grpc")]
pub mod status;

/// The gRPC messages and services, generated from `proto/secretd/v1/*.proto`.
#[cfg(feature = "grpc")]
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
#[allow(clippy::wildcard_enum_match_arm, clippy::str_to_string, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("secretd.v1");
}
#[cfg(feature = "grpc")]
mod opaque;
