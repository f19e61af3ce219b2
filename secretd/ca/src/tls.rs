//! TLS between nodes and for operators: version 1.3 alone (RFC 8446), with certificates of the cluster's authority on both
//! sides, and a key exchange that a later quantum computer does not open (X25519MLKEM768) preferred.
//!
//! A server takes peers without a certificate, which may do nothing but join, and peers whose certificate has expired,
//! which may do nothing but renew it: who serves asks [`Validity::is_expired`](crate::identity::Validity::is_expired) for
//! each call. A client takes neither.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use secretd_core::seam::clock::Clock;
use secretd_core::time::Timestamp;

use crate::identity::Validity;
use crate::key::NodeKey;
use crate::token::RootDigest;

/// The name that managers have in their certificates: clients ask for it, whatever the address.
pub const MANAGER_NAME: &str = "manager.secretd";
/// The name that workers have in theirs.
pub const WORKER_NAME: &str = "worker.secretd";

/// HTTP/2 (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";

/// Why a configuration cannot be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

fn tls_error(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// What somebody shows of itself.
#[derive(Debug)]
pub struct Credentials {
    /// Its own certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: NodeKey,
    /// What leads from it to roots that others trust; the roots themselves too, for those that have only a token.
    pub chain: Vec<CertificateDer<'static>>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn store(roots: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(tls_error)?;
    }
    Ok(Arc::new(store))
}

fn full_chain(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
    std::iter::once(&credentials.certificate).chain(&credentials.chain).cloned().collect()
}

/// Which of `roots` leads to a certificate, directly or by `intermediates`: the first that does, whether or not the
/// certificate has expired. `None` where none does.
pub fn issuer(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
) -> Option<RootDigest> {
    let last = unix(Validity::of(certificate).ok()?.not_after);
    let leads = |root: &&CertificateDer<'static>| {
        let store = store(std::slice::from_ref(*root)).ok();
        let verifier = store.map(|store| WebPkiClientVerifier::builder_with_provider(store, provider()).build());
        let Some(Ok(verifier)) = verifier else { return false };
        verifier.verify_client_cert(certificate, intermediates, last).is_ok()
    };
    roots.iter().find(leads).map(RootDigest::of)
}

/// What a manager demands of those that connect to it.
///
/// # Errors
/// When certificates and keys do not belong together.
pub fn server_config(
    credentials: &Credentials,
    roots: &[CertificateDer<'static>],
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(store(roots)?, provider());
    let verifier = verifier.allow_unauthenticated().build().map_err(tls_error)?;
    let verifier = Arc::new(ToleratesExpiry { inner: verifier });
    let config = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)));
    let config = config.with_protocol_versions(&[&TLS13]).map_err(tls_error)?;
    let mut config = config
        .with_client_cert_verifier(verifier)
        .with_single_cert(full_chain(credentials), credentials.key.to_rustls())
        .map_err(tls_error)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every connection shows its certificate anew: what was removed since does not come back by a ticket.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a node or an operator demands of the manager that it connects to.
///
/// # Errors
/// When certificates and keys do not belong together.
pub fn client_config(
    credentials: &Credentials,
    roots: &[CertificateDer<'static>],
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(store(roots)?, provider()).build().map_err(tls_error)?;
    let config = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)));
    let config = config.with_protocol_versions(&[&TLS13]).map_err(tls_error)?;
    let mut config = config
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(full_chain(credentials), credentials.key.to_rustls())
        .map_err(tls_error)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// What a node that has only a join token demands: a manager of the cluster whose root certificate the token names. The
/// second value has that certificate after the handshake.
///
/// # Errors
/// When the library refuses its own defaults.
pub fn joining_config(
    root: RootDigest,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<ClientConfig>, Arc<OnceLock<CertificateDer<'static>>>), TlsError> {
    let found = Arc::new(OnceLock::new());
    let verifier = Arc::new(KnowsDigest { root, found: Arc::clone(&found), provider: provider() });
    let config = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)));
    let config = config.with_protocol_versions(&[&TLS13]).map_err(tls_error)?;
    let mut config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok((Arc::new(config), found))
}

/// The name to connect with.
#[allow(clippy::expect_used)]
pub fn manager_name() -> ServerName<'static> {
    // PANIC-FREE: the constant is a DNS name.
    ServerName::try_from(MANAGER_NAME).expect("a DNS name")
}

/// Our clock, for rustls.
#[derive(Debug)]
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now()))
    }
}

fn unix(stamp: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(stamp.0).unwrap_or(0)))
}

/// Takes certificates of the cluster's authority, expired ones too.
#[derive(Debug)]
struct ToleratesExpiry {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ToleratesExpiry {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let validity = Validity::of(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let last = unix(validity.not_after);
        let at = if now.as_secs() > last.as_secs() { last } else { now };
        self.inner.verify_client_cert(end_entity, intermediates, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }
}

/// Takes a manager whose chain has the root certificate that a token names.
#[derive(Debug)]
struct KnowsDigest {
    root: RootDigest,
    found: Arc<OnceLock<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for KnowsDigest {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates.iter().find(|certificate| self.root.matches(certificate));
        let root = root.ok_or(CertificateError::UnknownIssuer)?.clone().into_owned();
        let store = store(std::slice::from_ref(&root)).map_err(|_| CertificateError::BadEncoding)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&self.provider));
        let verifier = verifier.build().map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let _ = self.found.set(root); // the same certificate each time
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not used".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
