//! The way to a node: its control socket, and one connection to it.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1::control_client::ControlClient;
use secretd_proto::v1::images_client::ImagesClient;
use secretd_proto::v1::local_client::LocalClient;
use secretd_proto::v1::volumes_client::VolumesClient;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::failure::Failure;

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

impl Interceptor for Reading {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.stale {
            request.metadata_mut().insert("secretd-read", MetadataValue::from_static("stale"));
        }
        Ok(request)
    }
}

/// Where a node's control socket is: `unix://PATH`. Nothing stands for the default, so that SCTL_HOST may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host(PathBuf);

impl FromStr for Host {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT_HOST } else { text };
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self(path.into())),
            _ => Err("a host is unix:// and the absolute path of a control socket".to_owned()),
        }
    }
}

impl Host {
    /// Connects to the API.
    pub(crate) async fn control(&self, reading: Reading) -> Result<Control, Failure> {
        let client = ControlClient::with_interceptor(self.channel().await?, reading);
        Ok(client.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH))
    }

    /// Connects to what the node serves whether or not it is part of a cluster.
    pub(crate) async fn local(&self) -> Result<Local, Failure> {
        Ok(LocalClient::new(self.channel().await?))
    }

    /// The same of a daemon that may be starting: tries as long as there is no socket, or nobody at it.
    pub(crate) async fn local_within(&self, patience: Duration) -> Result<Local, Failure> {
        /// Between two attempts.
        const PAUSE: Duration = Duration::from_millis(20);
        let nobody =
            |error: &io::Error| [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind());
        let end = Instant::now() + patience;
        while Instant::now() < end && UnixStream::connect(&self.0).await.is_err_and(|error| nobody(&error)) {
            tokio::time::sleep(PAUSE).await;
        }
        self.local().await
    }

    /// Connects to the node's images.
    pub(crate) async fn images(&self) -> Result<Images, Failure> {
        let client = ImagesClient::new(self.channel().await?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH))
    }

    /// Connects to the node's volumes.
    pub(crate) async fn volumes(&self) -> Result<VolumesClient<Channel>, Failure> {
        Ok(VolumesClient::new(self.channel().await?))
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        // Connected here, not in tonic, so that the reason is the system's own.
        let stream = UnixStream::connect(&self.0).await.map_err(|error| self.unreachable(&error))?;
        let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
        let connector = tower::service_fn(move |_| {
            let stream = stream.lock().take();
            async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)) }
        });
        let connected = Endpoint::from_static("http://secretd").connect_with_connector(connector).await;
        connected.map_err(|error| {
            Failure::unreachable(format!("cannot speak to secretd at unix://{}: {error}", self.0.display()))
        })
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let path = self.0.display();
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Failure::unreachable(format!(
                "cannot reach secretd at unix://{path}: permission denied: it serves root and members of the group secretd"
            ));
        }
        let reason = error.to_string().to_lowercase();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        Failure::unreachable(format!("cannot reach secretd at unix://{path}: {reason}: is secretd running?"))
    }
}
