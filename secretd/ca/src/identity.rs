//! What a certificate says: of which cluster somebody is, as which node or operator, in which role, and for how long.
//!
//! In the certificate: the common name is the node's id or the operator's name, the organization is the cluster's id, the
//! organizational unit is the role.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use secretd_core::time::Timestamp;
use secretd_proto::id::{ClusterId, NodeId};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates count from an hour before they are made: clocks differ.
pub(crate) const BACKDATED: Duration = Duration::from_hours(1);

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It keeps the state and decides.
    Manager,
    /// It runs tasks alone.
    Worker,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRole {
    /// Everything.
    Admin,
    /// Read metadata.
    Viewer,
}

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A node.
    Node {
        /// Which.
        id: NodeId,
        /// As what it was admitted; the state of the cluster knows whether it still is.
        role: NodeRole,
    },
    /// A person or a program with `sctl`.
    Operator {
        /// As it was named when the certificate was made.
        name: String,
        /// What it may do.
        role: OperatorRole,
    },
}

/// Somebody of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Who.
    pub identity: Identity,
}

/// From when to when a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From this second on.
    pub not_before: Timestamp,
    /// Up to this second.
    pub not_after: Timestamp,
}

/// A certificate that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no X.509 certificate.
    #[error("this is no X.509 certificate")]
    NotX509,
    /// Its subject is none that our authority writes.
    #[error("the certificate names no node and no operator of a cluster: {0}")]
    Subject(&'static str),
}

pub(crate) const MANAGER: &str = "secretd-manager";
pub(crate) const WORKER: &str = "secretd-worker";
pub(crate) const ADMIN: &str = "secretd-admin";
pub(crate) const VIEWER: &str = "secretd-viewer";

impl Identity {
    /// What stands in the certificate: common name and unit.
    pub(crate) fn names(&self) -> (String, &'static str) {
        match self {
            Self::Node { id, role: NodeRole::Manager } => (id.to_string(), MANAGER),
            Self::Node { id, role: NodeRole::Worker } => (id.to_string(), WORKER),
            Self::Operator { name, role: OperatorRole::Admin } => (name.clone(), ADMIN),
            Self::Operator { name, role: OperatorRole::Viewer } => (name.clone(), VIEWER),
        }
    }

    fn parse(name: &str, unit: &str) -> Result<Self, CertificateError> {
        let node = |role| {
            let id = name.parse().map_err(|_| CertificateError::Subject("its common name is no node's id"))?;
            Ok(Self::Node { id, role })
        };
        let operator = |role| Ok(Self::Operator { name: name.to_owned(), role });
        match unit {
            MANAGER => node(NodeRole::Manager),
            WORKER => node(NodeRole::Worker),
            ADMIN => operator(OperatorRole::Admin),
            VIEWER => operator(OperatorRole::Viewer),
            _ => Err(CertificateError::Subject("its unit is no role")),
        }
    }
}

impl Subject {
    /// Whom a certificate is for. That our authority made it is for the handshake to find out.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let parsed = parse(certificate)?;
        let subject = parsed.subject();
        let one = |mut names: Box<dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>> + '_>, what| {
            let first = names.next().and_then(|name| name.as_str().ok().map(str::to_owned));
            match (first, names.next()) {
                (Some(name), None) => Ok(name),
                _ => Err(CertificateError::Subject(what)),
            }
        };
        let name = one(Box::new(subject.iter_common_name()), "it has not one common name")?;
        let unit = one(Box::new(subject.iter_organizational_unit()), "it has not one unit")?;
        let organization = one(Box::new(subject.iter_organization()), "it has not one organization")?;
        let cluster = organization.parse();
        let cluster = cluster.map_err(|_| CertificateError::Subject("its organization is no cluster's id"))?;
        Ok(Self { cluster, identity: Identity::parse(&name, &unit)? })
    }
}

impl Validity {
    /// From when to when a certificate counts.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let parsed = parse(certificate)?;
        let stamp = |seconds: i64| Timestamp(seconds.saturating_mul(1_000_000_000));
        let validity = parsed.validity();
        Ok(Self {
            not_before: stamp(validity.not_before.timestamp()),
            not_after: stamp(validity.not_after.timestamp()),
        })
    }

    /// Whether it counts no more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// For how long it counts. Certificates count from a while before they are made, which is no part of it.
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.not_after.0.saturating_sub(self.made_at().0)).unwrap_or(0))
    }

    fn made_at(&self) -> Timestamp {
        let backdated = i64::try_from(BACKDATED.as_nanos()).unwrap_or(0);
        Timestamp(self.not_before.0.saturating_add(backdated).min(self.not_after.0))
    }

    /// When to renew it: at some time between a half and four fifths of its life, chosen by `random` from 0 to 1, so that
    /// a thousand nodes do not come at once.
    pub fn renew_at(&self, random: f64) -> Timestamp {
        let part = self.lifetime().mul_f64(0.5 + 0.3 * random.clamp(0.0, 1.0));
        Timestamp(self.made_at().0.saturating_add(i64::try_from(part.as_nanos()).unwrap_or(i64::MAX)))
    }
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(CertificateError::NotX509),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_between_a_half_and_four_fifths() {
        let made = Timestamp(i64::try_from(BACKDATED.as_nanos()).unwrap());
        let validity = Validity { not_before: Timestamp(0), not_after: Timestamp(made.0 + 1_000) };

        let [first, last] = [0.0, 1.0].map(|random| validity.renew_at(random).0 - made.0);
        assert_eq!((first, last, validity.lifetime()), (500, 800, Duration::from_nanos(1_000)));
        assert!(!validity.is_expired(validity.not_after) && validity.is_expired(Timestamp(made.0 + 1_001)));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let bytes = CertificateDer::from(vec![1, 2, 3]);

        assert_eq!(Subject::of(&bytes), Err(CertificateError::NotX509));
    }
}
