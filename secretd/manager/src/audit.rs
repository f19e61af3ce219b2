//! Who did what on the control API: ids and the caller's user, never names, because the journal is on disk in clear.

use std::fmt::Display;

use tonic::Extensions;
use tonic::transport::server::UdsConnectInfo;

use crate::refusal::Refusal;

/// Who calls: the other end of the control socket, as the kernel vouches for it (SO_PEERCRED).
///
/// The binary that accepts connections puts it into each request's extensions, or serves tokio's Unix sockets, whose
/// connection info says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process; `None` when it is in no namespace of ours.
    pub pid: Option<i32>,
}

impl Peer {
    /// The caller of a request, if the transport tells.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let said = extensions.get::<Self>().copied();
        said.or_else(|| {
            let credentials = extensions.get::<UdsConnectInfo>()?.peer_cred?;
            Some(Self { uid: credentials.uid(), pid: credentials.pid() })
        })
    }
}

/// Writes down the outcome of an action on the object with `id` and hands it on.
pub(crate) fn record<T>(
    peer: Option<Peer>,
    action: &'static str,
    id: impl Display,
    outcome: Result<T, Refusal>,
) -> Result<T, Refusal> {
    let uid = peer.map(|peer| peer.uid);
    let pid = peer.and_then(|peer| peer.pid);
    match &outcome {
        Ok(_) => tracing::info!(target: "audit", action, %id, uid, pid, outcome = "done"),
        Err(refusal) => tracing::info!(target: "audit", action, %id, uid, pid, outcome = refusal.code.as_str()),
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_what_the_transport_says() {
        let mut extensions = Extensions::new();
        assert_eq!(Peer::of(&extensions), None);
        extensions.insert(UdsConnectInfo { peer_addr: None, peer_cred: None });
        assert_eq!(Peer::of(&extensions), None);
        extensions.insert(Peer { uid: 1000, pid: Some(7) });
        assert_eq!(Peer::of(&extensions), Some(Peer { uid: 1000, pid: Some(7) }));
    }
}
