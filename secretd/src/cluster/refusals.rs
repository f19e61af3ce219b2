//! What callers are told when the node is not what they need, in Docker's words.

use std::io;

use secretd_manager::refusal::Refusal;
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_store::RolledBack;
use tonic::Status;

pub(crate) fn not_in_cluster() -> Refusal {
    let message = "this node is not a cluster manager: use \"sctl cluster init\" or \"sctl cluster join\" to connect this node to a cluster and try again";
    Refusal::new(Code::NotInitialized, message)
}

pub(crate) fn worker() -> Refusal {
    let message = "this node is not a cluster manager: worker nodes can't be used to view or modify cluster state: run this command on a manager node or promote the current node to a manager";
    Refusal::new(Code::NotManager, message)
}

pub(crate) fn preparing() -> Refusal {
    let message = "this node is not a cluster manager: manager is being prepared or has trouble connecting to the cluster: see \"sctl info\"";
    Refusal::new(Code::NotManager, message)
}

pub(crate) fn rolled_back(fault: &RolledBack) -> Refusal {
    Refusal::new(Code::RolledBack, fault)
}

pub(crate) fn locked() -> Refusal {
    let message = "the cluster is encrypted and needs to be unlocked before it can be used: use \"sctl cluster unlock\" to unlock it";
    Refusal::new(Code::Locked, message)
}

pub(crate) fn not_locked() -> Refusal {
    Refusal::new(Code::NotRunning, "this node is not locked")
}

pub(crate) fn already_in_cluster() -> Refusal {
    let message =
        "this node is already part of a cluster: use \"sctl cluster leave\" to leave this cluster and join another one";
    Refusal::new(Code::AlreadyInitialized, message)
}

pub(crate) fn stuck(error: &anyhow::Error) -> Refusal {
    let message = format!(
        "this node is part of a cluster, and cannot go on in it: {error:#}: mend that, and start secretd again"
    );
    Refusal::new(Code::Internal, message)
}

pub(crate) fn not_part() -> Refusal {
    Refusal::new(Code::NotInitialized, "this node is not part of a cluster")
}

pub(crate) fn invalid(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::InvalidArgument, message)
}

/// Something that should not happen, with its causes; and a full disk.
pub(crate) fn failed(error: &anyhow::Error) -> Refusal {
    let is_full =
        |cause: &io::Error| [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&cause.kind());
    match error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_full) {
        true => Refusal::new(Code::StorageFull, format!("{error:#}: free some space and repeat")),
        false => Refusal::new(Code::Internal, format!("{error:#}")),
    }
}

/// A refusal of another manager, handed on as it is.
pub(crate) fn of_status(status: &Status) -> Refusal {
    let code = status.metadata().get(METADATA_KEY).and_then(|code| code.to_str().ok()).and_then(Code::parse);
    Refusal::new(code.unwrap_or(Code::RemoteUnreachable), status.message())
}
