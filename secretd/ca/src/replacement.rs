//! Roots that replace the present one: what operators may bring with them, and how those who know only the old root
//! follow it to the new one.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyIdMethod, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateDer;
use secretd_core::time::Timestamp;
use secretd_proto::id::{ClusterId, NodeId};
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

use crate::authority::{Authority, IssueError, after, root_params, unusable};
use crate::identity::{Identity, NodeRole, Subject, Validity, parse};
use crate::key::NodeKey;
use crate::tls::issuer;

/// A root that ends sooner is not worth the trouble, as in Docker.
const SHORTEST: Duration = Duration::from_hours(24 * 365);

/// Why a root certificate that an operator brings is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// It is no certificate.
    #[error("the root certificate is no X.509 certificate")]
    NotX509,
    /// It cannot make certificates.
    #[error(
        "the certificate is none of an authority: it needs the basic constraint CA:TRUE and the key usage keyCertSign"
    )]
    NoAuthority,
    /// It ends too soon, or has not begun.
    #[error("the root certificate must count now and for a year at least: make one that does")]
    Validity,
    /// Its key is not the one that came with it, or none that we use.
    #[error("the key is not usable: it must be the certificate's own, ECDSA on P-256, in PKCS #8: {0}")]
    Key(IssueError),
    /// Nothing would change.
    #[error("the new root has the key of the present one: it must have another")]
    SameKey,
    /// Nodes could not follow the old root to this one.
    #[error("nodes would not find from the present root to this one: give its subject a single plain name, as CN=NAME")]
    NotFollowed,
    /// The present root cannot sign it.
    #[error(transparent)]
    Authority(#[from] IssueError),
}

impl Authority {
    /// The authority of a root that an operator brings.
    ///
    /// # Errors
    /// See [`ReplaceError`].
    pub fn brought(certificate: &CertificateDer<'_>, key: &[u8], now: Timestamp) -> Result<Self, ReplaceError> {
        let parsed = parse(certificate).map_err(|_| ReplaceError::NotX509)?;
        let signs = match parsed.key_usage() {
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !parsed.is_ca() || !signs {
            return Err(ReplaceError::NoAuthority);
        }
        let validity = Validity::of(certificate).map_err(|_| ReplaceError::NotX509)?;
        if validity.not_before > now || validity.not_after < after(now, SHORTEST) {
            return Err(ReplaceError::Validity);
        }
        Self::from_parts(certificate, key).map_err(ReplaceError::Key)
    }

    /// What leads from this root to `next`: the certificate of `next`, signed by this one. Who trusts this root alone can
    /// follow it to certificates that `next` has made, which is tried out here.
    ///
    /// # Errors
    /// When the keys are the same, or it cannot be followed.
    pub fn lead_to(
        &self,
        next: &Self,
        cluster: ClusterId,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, ReplaceError> {
        let same = |one: &X509Certificate<'_>, other: &X509Certificate<'_>| one.public_key() == other.public_key();
        let not = |_| ReplaceError::NotX509;
        if same(&parse(self.certificate()).map_err(not)?, &parse(next.certificate()).map_err(not)?) {
            return Err(ReplaceError::SameKey);
        }
        let cross = self.cross_sign(next.certificate(), cluster, now)?;
        let key = NodeKey::generate().map_err(|error| IssueError::Authority(error.to_string()))?;
        let request = key.request().map_err(|error| IssueError::Authority(error.to_string()))?;
        let identity = Identity::Node { id: NodeId::from_random([0; 16]), role: NodeRole::Manager };
        let issued = next.issue(&request, &Subject { cluster, identity }, Duration::from_hours(1), now)?;
        let roots = [self.certificate().clone()];
        issuer(&issued, std::slice::from_ref(&cross), &roots).map(|_| cross).ok_or(ReplaceError::NotFollowed)
    }

    /// Another root's certificate, signed by this one.
    ///
    /// # Errors
    /// When `other` is no certificate.
    pub fn cross_sign(
        &self,
        other: &CertificateDer<'_>,
        cluster: ClusterId,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let wrong = |error: crate::identity::CertificateError| IssueError::Authority(error.to_string());
        let own = Validity::of(self.certificate()).map_err(wrong)?;
        let mut params = root_params(cluster, own.not_after, now)?;
        let other = parse(other).map_err(wrong)?;
        take_subject(&mut params, &other)?;
        let key = SubjectPublicKeyInfo::from_der(other.public_key().raw).map_err(unusable)?;
        let signed = params.signed_by(&key, &self.issuer()?).map_err(unusable)?;
        Ok(signed.der().clone())
    }
}

/// A certificate is found by its issuer's name: the signed copy must have the same, byte for byte.
fn take_subject(params: &mut CertificateParams, other: &X509Certificate<'_>) -> Result<(), IssueError> {
    let odd = || IssueError::Authority("its subject has parts that are not usual".to_owned());
    let mut name = DistinguishedName::new();
    for attribute in other.subject().iter_attributes() {
        let kind: Vec<u64> = attribute.attr_type().iter().ok_or_else(odd)?.collect();
        let text = attribute.as_str().map_err(|_| odd())?;
        let value = match attribute.attr_value().header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(unusable)?),
            _ => return Err(odd()),
        };
        name.push(DnType::from_oid(&kind), value);
    }
    params.distinguished_name = name;
    let identifier = other.iter_extensions().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(identifier) = extension.parsed_extension() else { return None };
        Some(identifier.0.to_vec())
    });
    if let Some(identifier) = identifier {
        params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn cluster() -> ClusterId {
        ClusterId::from_random([7; 16])
    }

    /// A root as somebody else makes it, and its key.
    fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, Vec<u8>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("CH".try_into().unwrap()));
        params.distinguished_name.push(DnType::CommonName, "Our Company Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        change(&mut params);
        (params.self_signed(&key).unwrap().der().clone(), key.serialize_der())
    }

    #[test]
    fn root_of_somebody_elses_is_followed_from_the_old_one() {
        let old = Authority::generate(cluster(), NOW).unwrap();
        let (certificate, key) = foreign(|_| {});
        let new = Authority::brought(&certificate, &key, NOW).unwrap();

        let cross = old.lead_to(&new, cluster(), NOW).unwrap();

        assert_eq!(parse(&cross).unwrap().subject().as_raw(), parse(&certificate).unwrap().subject().as_raw());
        assert!(new.lead_to(&old, cluster(), NOW).is_ok(), "and back");
    }

    #[test]
    fn roots_that_would_not_do_are_refused() {
        let brought = |(certificate, key): (CertificateDer<'static>, Vec<u8>)| {
            Authority::brought(&certificate, &key, NOW).unwrap_err()
        };
        assert_eq!(brought(foreign(|params| params.is_ca = IsCa::ExplicitNoCa)), ReplaceError::NoAuthority);
        assert_eq!(
            brought(foreign(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign])),
            ReplaceError::NoAuthority
        );
        let soon = rcgen::date_time_ymd(2027, 6, 1);
        assert_eq!(brought(foreign(|params| params.not_after = soon)), ReplaceError::Validity);
        let later = rcgen::date_time_ymd(2030, 1, 1);
        assert_eq!(brought(foreign(|params| params.not_before = later)), ReplaceError::Validity);
        let (certificate, _) = foreign(|_| {});
        let (_, other) = foreign(|_| {});
        assert!(matches!(brought((certificate.clone(), other)), ReplaceError::Key(_)));
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_der();
        assert!(matches!(brought((certificate, p384)), ReplaceError::Key(_)));
        assert_eq!(brought((CertificateDer::from(vec![1]), vec![1])), ReplaceError::NotX509);

        let old = Authority::generate(cluster(), NOW).unwrap();
        assert_eq!(old.lead_to(&old, cluster(), NOW), Err(ReplaceError::SameKey));
        // rcgen keeps one value of a kind: the copy has another subject, and is not found.
        let (certificate, key) = foreign(|params| {
            params.distinguished_name.push(DnType::CommonName, "x".repeat(3));
            params
                .distinguished_name
                .push(DnType::OrganizationName, DnValue::Ia5String("not usual".try_into().unwrap()));
        });
        let odd = Authority::brought(&certificate, &key, NOW).unwrap();
        assert!(matches!(old.lead_to(&odd, cluster(), NOW), Err(ReplaceError::Authority(_))));
    }
}
