//! Images from a registry (OCI distribution specification), over TLS unless the registry is this machine's own or is
//! configured to be spoken to without.

use std::net::IpAddr;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as RemoteReference};
use secretd_core::seam::images::{Credentials, Image, ImageError, Progress};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::config::{ImageConfig, platform};
use super::layer::{self, Unpacked, node};
use super::load::{check_platform, short, verified};
use super::reference::{ParseReferenceError, Reference, is_digest};
use super::store::{ImageStore, Incoming};
use super::stream::{self, Hashing};

/// A registry that does not answer is given up.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// The largest configuration that is taken.
const MAX_CONFIG: i64 = 8 * 1024 * 1024;

/// One pull: where from, as whom, and who hears of it.
struct Pull<'a> {
    client: Client,
    remote: RemoteReference,
    registry: String,
    repository: String,
    progress: &'a mpsc::Sender<Progress>,
}

impl ImageStore {
    pub(super) async fn pull_image(
        &self,
        text: &str,
        plain_http: bool,
        credentials: Credentials,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Image, ImageError> {
        let reference: Reference =
            text.parse().map_err(|error: ParseReferenceError| ImageError::Invalid(error.to_string()))?;
        let pull = self.connect(&reference, plain_http, progress)?;
        let auth = match credentials.username.as_str() {
            "" => RegistryAuth::Anonymous,
            _ => RegistryAuth::Basic(credentials.username, credentials.password),
        };
        let (manifest, digest) =
            pull.client.pull_image_manifest(&pull.remote, &auth).await.map_err(|error| pull.failed(text, error))?;
        if let Some(want) = reference.digest.as_ref().filter(|want| **want != digest && manifest.layers.is_empty()) {
            return Err(ImageError::Digest { what: text.to_owned(), have: digest, want: want.clone() });
        }
        let config = self.config(&pull, text, &manifest.config).await?;
        let parsed: ImageConfig = serde_json::from_slice(&config)
            .map_err(|error| ImageError::BadArchive(format!("the image's configuration cannot be read: {error}")))?;
        check_platform(text, &parsed)?;
        if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
            let (named, there) = (parsed.rootfs.diff_ids.len(), manifest.layers.len());
            return Err(ImageError::BadArchive(format!(
                "the image's configuration names {named} layers, and its manifest {there}"
            )));
        }
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
            if self.has_layer(diff_id) {
                pull.tell(&descriptor.digest, "Already exists", descriptor.size, descriptor.size).await;
            } else {
                layers.push(self.layer(&pull, text, descriptor, diff_id).await?);
            }
        }
        let tags = if reference.tag.is_some() { vec![reference.familiar()] } else { Vec::new() };
        let name = reference.familiar();
        let name = name.rsplit_once(':').map_or(name.as_str(), |(name, _)| name);
        let digests = vec![format!("{name}@{digest}")];
        self.add(Incoming { id: stream::digest(&config), config, layers, tags, digests }).await
    }

    fn connect<'a>(
        &self,
        reference: &Reference,
        plain_http: bool,
        progress: &'a mpsc::Sender<Progress>,
    ) -> Result<Pull<'a>, ImageError> {
        let registry = reference.registry_or_default().to_owned();
        let plain = plain_http || is_loopback(&registry) || self.insecure_registries().contains(&registry);
        let mut certificates = Vec::new();
        for path in self.extra_ca() {
            let data = std::fs::read(path).map_err(|error| node(path, &error))?;
            certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
        }
        let (os, architecture) = platform();
        let resolver = move |entries: &[oci_client::manifest::ImageIndexEntry]| {
            let ours = |entry: &&oci_client::manifest::ImageIndexEntry| {
                entry
                    .platform
                    .as_ref()
                    .is_some_and(|it| it.os.to_string() == os && it.architecture.to_string() == architecture)
            };
            entries.iter().find(ours).map(|entry| entry.digest.clone())
        };
        let client = Client::new(ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: certificates,
            platform_resolver: Some(Box::new(resolver)),
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("secretd/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let repository = reference.repository();
        let remote = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => RemoteReference::with_digest(registry.clone(), repository.clone(), digest.clone()),
            (None, tag) => {
                let tag = tag.clone().unwrap_or_else(|| "latest".to_owned());
                RemoteReference::with_tag(registry.clone(), repository.clone(), tag)
            }
        };
        Ok(Pull { client, remote, registry, repository, progress })
    }

    async fn config(&self, pull: &Pull<'_>, text: &str, descriptor: &OciDescriptor) -> Result<Vec<u8>, ImageError> {
        if descriptor.size > MAX_CONFIG {
            return Err(ImageError::TooLarge(format!("the image's configuration has more than {MAX_CONFIG} bytes")));
        }
        let mut config = Vec::new();
        pull.client.pull_blob(&pull.remote, descriptor, &mut config).await.map_err(|error| pull.failed(text, error))?;
        let have = stream::digest(&config);
        if have == descriptor.digest {
            return Ok(config);
        }
        Err(ImageError::Digest { what: "the image's configuration".to_owned(), have, want: descriptor.digest.clone() })
    }

    /// Fetches a layer into a file without a name, checks its bytes, and unpacks it.
    async fn layer(
        &self,
        pull: &Pull<'_>,
        text: &str,
        descriptor: &OciDescriptor,
        diff_id: &str,
    ) -> Result<Unpacked, ImageError> {
        if !is_digest(&descriptor.digest) {
            return Err(ImageError::BadArchive(format!("`{}` is no sha256 digest", descriptor.digest)));
        }
        let tmp = self.tmp();
        let file = tempfile::tempfile_in(&tmp).map_err(|error| node(&tmp, &error))?;
        let mut writer = tokio::fs::File::from_std(file.try_clone().map_err(|error| node(&tmp, &error))?);
        pull.tell(&descriptor.digest, "Downloading", 0, descriptor.size).await;
        let counted = Counted {
            inner: &mut writer,
            written: 0,
            progress: pull.progress,
            id: short(&descriptor.digest),
            total: descriptor.size,
        };
        pull.client.pull_blob(&pull.remote, descriptor, counted).await.map_err(|error| pull.failed(text, error))?;
        writer.flush().await.map_err(|error| node(&tmp, &error))?;
        pull.tell(&descriptor.digest, "Extracting", descriptor.size, descriptor.size).await;
        let (want, limit, diff_id) = (descriptor.digest.clone(), self.max_unpacked(), diff_id.to_owned());
        let unpacking = tokio::task::spawn_blocking(move || {
            let mut file = file;
            let again = |file: &mut std::fs::File| std::io::Seek::rewind(file).map_err(|error| node(&tmp, &error));
            again(&mut file)?;
            let have = Hashing::new(&file).finish().map_err(|error| node(&tmp, &error))?;
            if have != want {
                return Err(ImageError::Digest { what: "a layer".to_owned(), have, want });
            }
            again(&mut file)?;
            verified(layer::read(file, &tmp, limit)?, &diff_id)
        });
        let unpacked = unpacking
            .await
            .map_err(|_| ImageError::Node { step: "pull".to_owned(), reason: "it was interrupted".to_owned() })??;
        pull.tell(&descriptor.digest, "Pull complete", descriptor.size, descriptor.size).await;
        Ok(unpacked)
    }
}

impl Pull<'_> {
    async fn tell(&self, digest: &str, status: &str, current: i64, total: i64) {
        let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
        let told =
            Progress { id: short(digest), status: status.to_owned(), current: bytes(current), total: bytes(total) };
        let _ = self.progress.send(told).await; // who does not listen does not hear
    }

    /// What a failure of the registry means to the user.
    #[allow(clippy::wildcard_enum_match_arm)] // what is not named is the registry's, whatever the library adds
    fn failed(&self, text: &str, error: OciDistributionError) -> ImageError {
        let denied = || ImageError::Denied { registry: self.registry.clone(), repository: self.repository.clone() };
        let unreachable = |reason: String| ImageError::Unreachable { registry: self.registry.clone(), reason };
        match error {
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => denied(),
            OciDistributionError::ImageManifestNotFoundError(_) => ImageError::NotFound(text.to_owned()),
            OciDistributionError::RegistryError { envelope, .. } => {
                match envelope.errors.first().map(|error| &error.code) {
                    Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => denied(),
                    Some(OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound) => {
                        ImageError::NotFound(text.to_owned())
                    }
                    _ => unreachable(envelope.to_string()),
                }
            }
            OciDistributionError::ServerError { code: 401 | 403, .. } => denied(),
            OciDistributionError::ServerError { code: 404, .. } => ImageError::NotFound(text.to_owned()),
            OciDistributionError::DigestError(DigestError::VerificationError { expected, actual }) => {
                ImageError::Digest { what: format!("a part of {text}"), have: actual, want: expected }
            }
            OciDistributionError::DigestError(error) => ImageError::BadArchive(format!("{text}: {error}")),
            OciDistributionError::ImageIndexParsingNoPlatformResolverError => {
                let (os, architecture) = platform();
                ImageError::Platform {
                    image: text.to_owned(),
                    have: "other platforms".to_owned(),
                    want: format!("{os}/{architecture}"),
                }
            }
            OciDistributionError::RequestError(error) => unreachable(chain(&error)),
            other => unreachable(chain(&other)),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Tells how far a download is, as often as the listener can take it.
struct Counted<'a, W> {
    inner: W,
    written: u64,
    progress: &'a mpsc::Sender<Progress>,
    id: String,
    total: i64,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counted<'_, W> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let written = std::pin::Pin::new(&mut self.inner).poll_write(context, bytes);
        if let std::task::Poll::Ready(Ok(length)) = &written {
            self.written += *length as u64;
            let total = u64::try_from(self.total).unwrap_or_default();
            let told = Progress { id: self.id.clone(), status: "Downloading".to_owned(), current: self.written, total };
            let _ = self.progress.try_send(told); // a listener that is behind gets a later one
        }
        written
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
