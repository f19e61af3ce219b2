//! The way to a node: its control socket, or the address of a manager, and one connection to it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use secretd_ca::pem;
use secretd_ca::tls::{Credentials, client_config, manager_name};
use secretd_core::seam::clock::SystemClock;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1::control_client::ControlClient;
use secretd_proto::v1::images_client::ImagesClient;
use secretd_proto::v1::local_client::LocalClient;
use secretd_proto::v1::volumes_client::VolumesClient;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::format::Age;

/// How long a connection over a network may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// The API's client.
pub(crate) type Control = ControlClient<InterceptedService<Channel, Reading>>;
/// The client of the node itself.
pub(crate) type Local = LocalClient<Channel>;
/// The client of the node's images.
pub(crate) type Images = ImagesClient<Channel>;

/// Where the control socket is unless somebody says so.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/secretd/control.sock";

/// How what is read must be: the newest, or what the node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) stale: bool,
}

impl Reading {
    /// How old what is read may be.
    pub(crate) fn age(self) -> Age {
        if self.stale { Age::MayBeOld } else { Age::Newest }
    }
}

impl Interceptor for Reading {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.stale {
            request.metadata_mut().insert("secretd-read", MetadataValue::from_static("stale"));
        }
        Ok(request)
    }
}

/// Where a node is. Nothing stands for the default, so that SCTL_HOST may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Its control socket.
    Unix(PathBuf),
    /// A manager's address: `host:port`.
    Tcp(String),
}

impl FromStr for Host {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT_HOST } else { text };
        let refused = || {
            Err("a host is unix:// and the absolute path of a control socket, or tcp://HOST:PORT of a manager"
                .to_owned())
        };
        match (text.strip_prefix("unix://"), text.strip_prefix("tcp://")) {
            (Some(path), _) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            (_, Some(address)) => match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(Self::Tcp(address.to_owned()))
                }
                _ => refused(),
            },
            _ => refused(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// What an operator shows of itself, a certificate and its key, and the roots that it trusts.
#[derive(Debug)]
pub(crate) struct Certificate {
    config: Arc<ClientConfig>,
}

impl Certificate {
    /// Of a file that `sctl operator create` has written.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let refused = |reason: &dyn fmt::Display| {
            Failure::invalid(format!("{}: {reason}: give a file of \"sctl operator create\"", path.display()))
        };
        let text = std::fs::read(path).map(Zeroizing::new).map_err(|error| refused(&error))?;
        let mut certificates = pem::certificates_of_pem(&text).map_err(|error| refused(&error))?;
        let key = pem::key_of_pem(&text).map_err(|error| refused(&error))?;
        let roots = certificates.split_off(1);
        let certificate = certificates.pop().ok_or_else(|| refused(&"there is no certificate in it"))?;
        if roots.is_empty() {
            return Err(refused(&"there are no root certificates in it"));
        }
        let credentials = Credentials { certificate, key, chain: Vec::new() };
        let config = client_config(&credentials, &roots, Arc::new(SystemClock)).map_err(|error| {
            let reason = error.to_string();
            match reason.contains("KeyMismatch") {
                true => refused(&"the key in it is not the certificate's"),
                false => refused(&reason),
            }
        })?;
        Ok(Self { config })
    }
}

/// A node, and what one shows of oneself to it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: Host,
    /// For [`Host::Tcp`].
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl Target {
    /// Connects to the API.
    pub(crate) async fn control(&self, reading: Reading) -> Result<Control, Failure> {
        let client = ControlClient::with_interceptor(self.channel().await?, reading);
        Ok(client.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH))
    }

    /// Connects to what the node serves whether or not it is part of a cluster.
    pub(crate) async fn local(&self) -> Result<Local, Failure> {
        self.socket()?;
        Ok(LocalClient::new(self.channel().await?))
    }

    /// The same of a daemon that may be starting: tries as long as there is no socket, or nobody at it.
    pub(crate) async fn local_within(&self, patience: Duration) -> Result<Local, Failure> {
        /// Between two attempts.
        const PAUSE: Duration = Duration::from_millis(20);
        let path = self.socket()?;
        let nobody =
            |error: &io::Error| [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind());
        let end = Instant::now() + patience;
        while Instant::now() < end && UnixStream::connect(path).await.is_err_and(|error| nobody(&error)) {
            tokio::time::sleep(PAUSE).await;
        }
        self.local().await
    }

    /// Connects to the node's images.
    pub(crate) async fn images(&self) -> Result<Images, Failure> {
        self.socket()?;
        let client = ImagesClient::new(self.channel().await?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH))
    }

    /// Connects to the node's volumes.
    pub(crate) async fn volumes(&self) -> Result<VolumesClient<Channel>, Failure> {
        self.socket()?;
        Ok(VolumesClient::new(self.channel().await?))
    }

    /// Whether it is this node that is spoken to.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.host, Host::Unix(_))
    }

    fn socket(&self) -> Result<&Path, Failure> {
        match &self.host {
            Host::Unix(path) => Ok(path),
            Host::Tcp(_) => Err(Failure::invalid(format!(
                "{} serves the cluster alone: what is of one node is asked for on that node, through its control socket",
                self.host
            ))),
        }
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        match &self.host {
            Host::Unix(path) => {
                // Connected here, not in tonic, so that the reason is the system's own.
                let stream = UnixStream::connect(path).await.map_err(|error| self.unreachable(&error))?;
                self.channel_on(stream).await
            }
            Host::Tcp(address) => {
                let stream = tokio::time::timeout(CONNECT, self.connect_tls(address)).await;
                let stream =
                    stream.unwrap_or_else(|_| Err(self.unreachable(&io::Error::from(io::ErrorKind::TimedOut))))?;
                self.channel_on(stream).await
            }
        }
    }

    async fn connect_tls(&self, address: &str) -> Result<BufReader<TlsStream<TcpStream>>, Failure> {
        let missing = || Failure::usage("tcp:// needs a certificate: give --cert FILE, or use a context that has one");
        let certificate = self.certificate.as_ref().ok_or_else(missing)?;
        let stream = TcpStream::connect(address).await.map_err(|error| self.unreachable(&error))?;
        let _ = stream.set_nodelay(true); // slower without, nothing else
        let connector = TlsConnector::from(Arc::clone(&certificate.config));
        let stream = connector.connect(manager_name(), stream).await.map_err(|error| self.unreachable(&error))?;
        // In TLS 1.3 a client has connected before the server has looked at its certificate (RFC 8446, 2). A server that
        // takes it speaks at once, as HTTP/2 has it (RFC 9113, 3.4).
        let mut stream = BufReader::new(stream);
        if stream.fill_buf().await.is_ok_and(|first| !first.is_empty()) {
            return Ok(stream);
        }
        let host = &self.host;
        Err(Failure::unreachable(format!(
            "cannot speak to secretd at {host}: the certificate is not one of this cluster, or the connection broke"
        )))
    }

    async fn channel_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Channel, Failure> {
        let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
        let connector = tower::service_fn(move |_| {
            let stream = stream.lock().take();
            async move { stream.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionReset, "it broke")) }
        });
        let connected = Endpoint::from_static("http://secretd").connect_with_connector(connector).await;
        connected.map_err(|error| Failure::unreachable(format!("cannot speak to secretd at {}: {error}", self.host)))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let host = &self.host;
        if let Some(said) = tls_words(error) {
            return Failure::unreachable(format!("cannot reach secretd at {host}: {said}"));
        }
        let reason = error.to_string().to_lowercase();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        match host {
            Host::Unix(_) if error.kind() == io::ErrorKind::PermissionDenied => Failure::unreachable(format!(
                "cannot reach secretd at {host}: permission denied: it serves root and members of the group secretd"
            )),
            Host::Unix(_) => {
                Failure::unreachable(format!("cannot reach secretd at {host}: {reason}: is secretd running?"))
            }
            Host::Tcp(_) => Failure::unreachable(format!(
                "cannot reach secretd at {host}: {reason}: is it a manager of this cluster?"
            )),
        }
    }
}

/// What to say where TLS has not come about and the library's own words help nobody.
fn tls_words(error: &io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<TlsError>()?;
    if let TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) = error {
        return Some(
            "the manager is of another cluster than this certificate, or the cluster's root was replaced: is it a manager of this cluster? If it is, make a new certificate with \"sctl operator create\"",
        );
    }
    matches!(error, TlsError::InvalidMessage(_)).then_some(
        "what answers there does not speak TLS: is it a manager of this cluster? Give the address and port of one",
    )
}

#[cfg(test)]
mod tests {
    use secretd_ca::{Authority, Identity, NodeKey, OperatorRole, Subject};
    use secretd_core::time::Timestamp;
    use secretd_proto::id::ClusterId;
    use tokio_rustls::rustls::InvalidMessage;

    use super::*;

    #[test]
    fn key_of_another_certificate_is_refused() {
        let (cluster, now) = (ClusterId::random(), Timestamp(1_800_000_000_000_000_000));
        let authority = Authority::generate(cluster, now).unwrap();
        let (own, other) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let identity = Identity::Operator { name: "mia".to_owned(), role: OperatorRole::Viewer };
        let (request, hour) = (own.request().unwrap(), Duration::from_secs(3600));
        let certificate = authority.issue(&request, &Subject { cluster, identity }, hour, now).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mia.pem");
        let write = |key: &NodeKey| {
            let (own, root) = (pem::certificate_to_pem(&certificate), pem::certificate_to_pem(authority.certificate()));
            std::fs::write(&path, format!("{own}{}{root}", *pem::key_to_pem(key))).unwrap();
        };

        write(&own);
        Certificate::read(&path).unwrap();
        write(&other);
        let refused = Certificate::read(&path).unwrap_err();
        let wanted = "the key in it is not the certificate's: give a file of \"sctl operator create\"";
        assert_eq!(refused.message, format!("{}: {wanted}", path.display()));
    }

    #[test]
    fn words_of_the_tls_library_do_not_reach_people() {
        let words = |error: TlsError| tls_words(&io::Error::new(io::ErrorKind::InvalidData, error));
        for (error, said) in [
            (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "the manager is of another cluster"),
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), "what answers there does not speak TLS"),
        ] {
            let words = words(error).unwrap();
            assert!(words.starts_with(said) && words.contains("is it a manager of this cluster?"), "{words}");
        }
        assert_eq!(words(TlsError::DecryptError), None);
        assert_eq!(tls_words(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}
