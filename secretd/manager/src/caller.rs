//! Who calls: through the control socket, over TLS, or handed on by a manager that does not lead.

use std::fmt;
use std::net::IpAddr;

use secretd_ca::{Fingerprint, Identity, NodeRole, OperatorRole, RootDigest};
use secretd_core::time::Timestamp;
use secretd_proto::id::NodeId;
use tonic::Extensions;
use tonic::transport::server::UdsConnectInfo;

/// The certificate with which somebody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its own digest.
    pub fingerprint: Fingerprint,
    /// Of the root that has made it.
    pub issuer: RootDigest,
    /// Up to when it counts.
    pub not_after: Timestamp,
    /// Whether this node was told of that root as the newest, and its state does not know it yet. Of a connection alone:
    /// not handed on.
    pub is_ahead: bool,
}

/// Who a call comes from. The binary that accepts connections puts it into each request's extensions, or serves tokio's
/// Unix sockets, whose connection info says as much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The other end of the control socket, as the kernel vouches for it (SO_PEERCRED, unix(7)).
    Local {
        /// The user.
        uid: u32,
        /// The process; `None` when it is in no namespace of ours.
        pid: Option<i32>,
    },
    /// A node, by its certificate.
    Node {
        /// Which.
        id: NodeId,
        /// As what it was admitted.
        role: NodeRole,
        /// Its certificate.
        shown: Shown,
        /// Whether its certificate counts no more.
        expired: bool,
    },
    /// An operator, by a certificate.
    Operator {
        /// As the certificate names it.
        name: String,
        /// What it may do.
        role: OperatorRole,
        /// Its certificate.
        shown: Shown,
        /// Whether its certificate counts no more.
        expired: bool,
    },
    /// Somebody without a certificate.
    Anonymous {
        /// Where from, if that is known.
        from: Option<IpAddr>,
    },
}

impl Caller {
    /// The same, `now`: a certificate expires while a stream goes on.
    pub(crate) fn at(&self, now: Timestamp) -> Self {
        let mut caller = self.clone();
        if let Self::Node { shown, expired, .. } | Self::Operator { shown, expired, .. } = &mut caller {
            *expired |= now > shown.not_after;
        }
        caller
    }

    /// The caller of a request, if the transport tells.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        let said = extensions.get::<Self>().cloned();
        said.or_else(|| Self::of_connection(extensions.get::<UdsConnectInfo>()?))
    }

    pub(crate) fn of_connection(info: &UdsConnectInfo) -> Option<Self> {
        let credentials = info.peer_cred?;
        Some(Self::Local { uid: credentials.uid(), pid: credentials.pid() })
    }

    /// Somebody whose certificate the handshake has checked.
    pub fn of_certificate(identity: Identity, shown: Shown, expired: bool) -> Self {
        match identity {
            Identity::Node { id, role } => Self::Node { id, role, shown, expired },
            Identity::Operator { name, role } => Self::Operator { name, role, shown, expired },
        }
    }

    /// As one manager tells another for whom it calls.
    pub(crate) fn to_header(&self) -> String {
        let admin = |role: &OperatorRole| if *role == OperatorRole::Admin { "admin" } else { "viewer" };
        let manager = |role: &NodeRole| if *role == NodeRole::Manager { "manager" } else { "worker" };
        match self {
            Self::Local { uid, pid } => format!("local {uid} {}", pid.unwrap_or(0)),
            Self::Node { id, role, shown, expired } => {
                format!("node {id} {} {expired} {}", manager(role), shown.to_text())
            }
            Self::Operator { name, role, shown, expired } => {
                format!("operator {name} {} {expired} {}", admin(role), shown.to_text())
            }
            Self::Anonymous { from } => {
                format!("anonymous {}", from.map_or_else(|| "-".to_owned(), |ip| ip.to_string()))
            }
        }
    }

    /// As [`Caller::to_header`], backwards.
    pub(crate) fn from_header(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        Some(match words.as_slice() {
            ["local", uid, pid] => {
                Self::Local { uid: uid.parse().ok()?, pid: pid.parse().ok().filter(|pid| *pid != 0) }
            }
            ["node", id, role, expired, shown @ ..] => {
                let role = if *role == "manager" { NodeRole::Manager } else { NodeRole::Worker };
                Self::Node {
                    id: id.parse().ok()?,
                    role,
                    shown: Shown::from_words(shown)?,
                    expired: expired.parse().ok()?,
                }
            }
            ["operator", name, role, expired, shown @ ..] => {
                let role = if *role == "admin" { OperatorRole::Admin } else { OperatorRole::Viewer };
                let (shown, expired) = (Shown::from_words(shown)?, expired.parse().ok()?);
                Self::Operator { name: (*name).to_owned(), role, shown, expired }
            }
            ["anonymous", from] => Self::Anonymous { from: from.parse().ok() },
            _ => return None,
        })
    }
}

impl Shown {
    fn to_text(self) -> String {
        let issuer = Fingerprint::from_bytes(*self.issuer.as_bytes());
        format!("{} {issuer} {}", self.fingerprint, self.not_after.0)
    }

    fn from_words(words: &[&str]) -> Option<Self> {
        let [fingerprint, issuer, not_after] = words else { return None };
        let issuer: Fingerprint = issuer.parse().ok()?;
        Some(Self {
            fingerprint: fingerprint.parse().ok()?,
            issuer: RootDigest::from_bytes(*issuer.as_bytes()),
            not_after: Timestamp(not_after.parse().ok()?),
            is_ahead: false,
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Self::Local { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Node { id, .. } => write!(f, "node {id}"),
            Self::Operator { name, .. } => write!(f, "operator {name}"),
            Self::Anonymous { from: None } => f.write_str("anonymous"),
            Self::Anonymous { from: Some(ip) } => write!(f, "anonymous at {ip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_handed_on_as_it_is() {
        let id = NodeId::from_random([3; 16]);
        let shown = Shown {
            fingerprint: Fingerprint::from_bytes([1; 32]),
            issuer: RootDigest::from_bytes([2; 32]),
            not_after: Timestamp(-3),
            is_ahead: false,
        };
        for caller in [
            Caller::Local { uid: 1000, pid: Some(7) },
            Caller::Local { uid: 0, pid: None },
            Caller::Node { id, role: NodeRole::Worker, shown, expired: true },
            Caller::Node { id, role: NodeRole::Manager, shown, expired: false },
            Caller::Operator { name: "mia".to_owned(), role: OperatorRole::Viewer, shown, expired: false },
            Caller::Operator { name: "a.b".to_owned(), role: OperatorRole::Admin, shown, expired: true },
            Caller::Anonymous { from: None },
            Caller::Anonymous { from: Some([10, 0, 0, 9].into()) },
        ] {
            assert_eq!(Caller::from_header(&caller.to_header()), Some(caller));
        }
        for text in
            ["", "root", "local", "node x manager false", "operator a admin maybe", "operator a admin true 00 00 0"]
        {
            assert_eq!(Caller::from_header(text), None, "{text}");
        }
    }

    #[test]
    fn a_caller_is_what_the_transport_says() {
        let mut extensions = Extensions::new();
        assert_eq!(Caller::of(&extensions), None);
        extensions.insert(UdsConnectInfo { peer_addr: None, peer_cred: None });
        assert_eq!(Caller::of(&extensions), None);
        extensions.insert(Caller::Local { uid: 1000, pid: Some(7) });
        assert_eq!(Caller::of(&extensions), Some(Caller::Local { uid: 1000, pid: Some(7) }));
    }
}
