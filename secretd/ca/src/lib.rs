//! Who is who in a cluster: its X.509 authority, the certificates of nodes and operators, join tokens, and TLS.
//!
//! Reading order: [`identity`] (what a certificate says) and [`fingerprint`] (what it is known by), [`authority`] (who makes
//! certificates) and [`replacement`] (how another one takes its place), [`key`] (a node's own
//! key), [`token`] (how a node without a certificate shows that it may have one), [`tls`] (what connections demand),
//! [`pem`] (certificates and keys as files for operators).
//!
//! Deliberately absent: IO, the time (it is handed in), and what a peer may do: that is decided for each call, by the
//! state of the cluster, which knows removed nodes.

pub mod authority;
pub mod fingerprint;
pub mod identity;
pub mod key;
pub mod pem;
pub mod replacement;
pub mod tls;
pub mod token;

pub use crate::authority::{Authority, IssueError};
pub use crate::fingerprint::Fingerprint;
pub use crate::identity::{Identity, NodeRole, OperatorRole, Subject};
pub use crate::key::NodeKey;
pub use crate::replacement::ReplaceError;
pub use crate::token::{JoinToken, RootDigest, TokenSecret};
pub use rustls_pki_types::CertificateDer;
