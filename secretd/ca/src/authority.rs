//! The cluster's authority: a root certificate and its key, and the certificates that it makes.
//!
//! Every manager has it, sealed in the replicated state, so each can make certificates.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use secretd_core::time::Timestamp;
use secretd_proto::id::ClusterId;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::{BACKDATED, Identity, NodeRole, Subject, Validity, parse};
use crate::tls::{MANAGER_NAME, WORKER_NAME};
use crate::token::RootDigest;

/// How long a root certificate counts.
pub const ROOT_VALIDITY: Duration = Duration::from_hours(24 * 365 * 20);

/// Why a certificate was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is no signed request for a certificate.
    #[error("the request for a certificate is not one, or its signature is not by its key")]
    Request,
    /// The authority's own certificate or key is not usable.
    #[error("the authority is not usable: {0}")]
    Authority(String),
    /// The root certificate itself has expired.
    #[error("the cluster's root certificate has expired: make a new one with `sctl cluster ca --rotate`")]
    RootExpired,
}

/// Makes certificates. Not `Clone`; its key is wiped when dropped.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("root", &self.digest()).finish_non_exhaustive()
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
pub(crate) fn unusable(error: rcgen::Error) -> IssueError {
    IssueError::Authority(error.to_string())
}

impl Authority {
    /// A new authority for a cluster.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(cluster: ClusterId, now: Timestamp) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let params = root_params(cluster, after(now, ROOT_VALIDITY), now)?;
        let certificate = params.self_signed(&key).map_err(unusable)?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    /// An authority that was made before: its certificate, and its key in PKCS #8.
    ///
    /// # Errors
    /// When they are not a pair.
    pub fn from_parts(certificate: &[u8], key: &[u8]) -> Result<Self, IssueError> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let key = PrivatePkcs8KeyDer::from(key);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let root = parse(&certificate).map_err(|error| IssueError::Authority(error.to_string()))?;
        if root.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(IssueError::Authority("its key is not that of its certificate".to_owned()));
        }
        Ok(Self { certificate, key })
    }

    /// The root certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What join tokens know the root certificate by.
    pub fn digest(&self) -> RootDigest {
        RootDigest::of(&self.certificate)
    }

    /// Until when the root certificate counts.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn expires_at(&self) -> Result<Timestamp, IssueError> {
        let own = Validity::of(&self.certificate).map_err(|error| IssueError::Authority(error.to_string()))?;
        Ok(own.not_after)
    }

    /// The key, to be sealed and kept: PKCS #8.
    pub fn expose_key(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.key.serialize_der())
    }

    /// A certificate for `subject` with the public key of a request. Nothing else of the request counts.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn issue(
        &self,
        request: &[u8],
        subject: &Subject,
        validity: Duration,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(|_| IssueError::Request)?;
        let root_until = self.expires_at()?;
        if root_until < now {
            return Err(IssueError::RootExpired);
        }
        let until = after(now, validity).min(root_until);
        let params = subject_params(subject, until, now)?;
        let issued = params.signed_by(&request.public_key, &self.issuer()?).map_err(unusable)?;
        Ok(issued.der().clone())
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, IssueError> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(unusable)
    }
}

pub(crate) fn after(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
}

/// What every certificate of ours has.
fn params(until: Timestamp, now: Timestamp) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    let day = |stamp: Timestamp| {
        let since = Duration::from_secs(u64::try_from(stamp.0 / 1_000_000_000).unwrap_or(0));
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    params.not_before = day(Timestamp(now.0.saturating_sub(i64::try_from(BACKDATED.as_nanos()).unwrap_or(0))));
    params.not_after = day(until);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|_| IssueError::Authority("the system has no random source".to_owned()))?;
    if let Some(first) = serial.first_mut() {
        *first &= 0x7f; // a positive number (RFC 5280, 4.1.2.2)
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

pub(crate) fn root_params(
    cluster: ClusterId,
    until: Timestamp,
    now: Timestamp,
) -> Result<CertificateParams, IssueError> {
    let mut params = params(until, now)?;
    params.distinguished_name.push(DnType::CommonName, "secretd-ca");
    params.distinguished_name.push(DnType::OrganizationName, cluster.to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn subject_params(subject: &Subject, until: Timestamp, now: Timestamp) -> Result<CertificateParams, IssueError> {
    let mut params = params(until, now)?;
    let (name, unit) = subject.identity.names();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, subject.cluster.to_string());
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let server_name = match subject.identity {
        Identity::Node { role: NodeRole::Manager, .. } => Some(MANAGER_NAME),
        Identity::Node { role: NodeRole::Worker, .. } => Some(WORKER_NAME),
        Identity::Operator { .. } => None,
    };
    if let Some(name) = server_name {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().map_err(unusable)?)];
    }
    Ok(params)
}

#[cfg(test)]
mod tests;
