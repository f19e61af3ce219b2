//! Somebody who is not secretd and has joined a cluster all the same, by a token: certificates are asked for and shown as
//! nodes do, and what is called with them is the test's own.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use secretd_ca::tls::{Credentials, client_config, joining_config, manager_name};
use secretd_ca::{CertificateDer, JoinToken, NodeKey, pem};
use secretd_core::seam::clock::SystemClock;
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::codec::Compact;
use secretd_proto::v1;
use secretd_proto::v1::admission_client::AdmissionClient;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::lab::Lab;

/// A node that is none.
pub struct Stranger {
    /// As the cluster knows it.
    pub id: String,
    /// Whether it was admitted as a manager.
    pub manager: bool,
    /// Its certificate and its key.
    pub credentials: Credentials,
    /// The roots that it was told of.
    pub roots: Vec<CertificateDer<'static>>,
    /// To the manager that has admitted it.
    pub channel: Channel,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger").field("id", &self.id).field("manager", &self.manager).finish_non_exhaustive()
    }
}

impl Stranger {
    /// Joins with a token.
    pub async fn join(token: &str, manager: &str, hostname: &str) -> Result<Self> {
        let key = NodeKey::generate()?;
        let secret = token.parse::<JoinToken>()?.secret;
        let description = v1::NodeDescription { hostname: hostname.to_owned(), ..v1::NodeDescription::default() };
        let request = v1::AdmitRequest {
            secret: secret.expose().to_vec(),
            request: key.request()?,
            address: "10.77.0.99:7377".to_owned(), // nobody is there
            description: Some(description),
            availability: v1::node::Availability::Active.into(),
        };
        let there = Badge::none(token)?.connect(manager).await?;
        let admitted = AdmissionClient::new(there).admit(request).await?.into_inner();
        let roots: Vec<CertificateDer<'static>> = admitted.roots.into_iter().map(CertificateDer::from).collect();
        let credentials = Credentials { certificate: admitted.certificate.into(), key, chain: roots.clone() };
        let channel = Badge::new(&credentials, &roots)?.connect(manager).await?;
        Ok(Self { id: admitted.node_id, manager: admitted.manager, credentials, roots, channel })
    }

    /// What it shows.
    pub fn badge(&self) -> Result<Badge> {
        Badge::new(&self.credentials, &self.roots)
    }
}

/// What somebody shows when it calls a manager, and whom it believes.
#[derive(Debug, Clone)]
pub struct Badge(Arc<ClientConfig>);

impl Badge {
    /// A certificate, and the roots of managers.
    pub fn new(credentials: &Credentials, roots: &[CertificateDer<'static>]) -> Result<Self> {
        Ok(Self(client_config(credentials, roots, Arc::new(SystemClock))?))
    }

    /// Nothing: whoever has a join token believes the managers of its cluster.
    pub fn none(token: &str) -> Result<Self> {
        Ok(Self(joining_config(token.parse::<JoinToken>()?.root, Arc::new(SystemClock))?.0))
    }

    /// The file of an operator; with `roots` instead of its own.
    pub fn of_operator(file: &Path, roots: Option<&[CertificateDer<'static>]>) -> Result<Self> {
        let text = std::fs::read(file)?;
        let mut certificates = pem::certificates_of_pem(&text)?;
        let own = certificates.split_off(1);
        let certificate = certificates.pop().context("there is no certificate")?;
        let credentials = Credentials { certificate, key: pem::key_of_pem(&text)?, chain: Vec::new() };
        Self::new(&credentials, roots.unwrap_or(&own))
    }

    /// One connection, as nodes make them: see `secretd/src/cluster/links.rs`.
    pub async fn connect(&self, manager: &str) -> Result<Channel> {
        let stream = TcpStream::connect(manager).await?;
        let connector = TlsConnector::from(Arc::clone(&self.0));
        let mut stream = Some(TokioIo::new(connector.connect(manager_name(), stream).await?));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take();
            async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)) }
        });
        Ok(Endpoint::from_static("http://manager.secretd").connect_with_connector(connector).await?)
    }
}

/// Makes the call `Service.Method` with an empty message: what came of it at first.
pub async fn call(channel: &Channel, call: &str) -> Result<Result<(), Status>> {
    let (service, method) = call.split_once('.').context("a call is Service.Method")?;
    let path: PathAndQuery = format!("/secretd.v1.{service}/{method}").parse()?;
    let mut grpc = Grpc::new(channel.clone());
    if let Err(gone) = grpc.ready().await {
        return Ok(Err(Status::from_error(gone.into())));
    }
    Ok(grpc.server_streaming(Request::new(()), path, Compact::<(), ()>::default()).await.map(drop))
}

/// The code of a refusal.
pub fn code(status: &Status) -> Option<Code> {
    status.metadata().get(METADATA_KEY).and_then(|code| code.to_str().ok()).and_then(Code::parse)
}

/// Does `work` in the network of a node.
pub fn in_network_of<T: Send>(lab: &Lab, number: usize, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", lab.node(number).sandbox().pid()))?;
    std::thread::scope(|scope| {
        // A thread of its own: it does not come back from there.
        let worked = scope.spawn(|| {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
        });
        worked.join().map_err(|_| anyhow::anyhow!("it has panicked"))?
    })
}
