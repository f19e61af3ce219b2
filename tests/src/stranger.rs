//! Somebody who is not secretd and has joined a cluster all the same, by a token: certificates are asked for and shown as
//! nodes do, and what is called with them is the test's own.

use std::fmt;
use std::io;
use std::sync::Arc;

use anyhow::Result;
use hyper_util::rt::TokioIo;
use secretd_ca::tls::{Credentials, client_config, joining_config, manager_name};
use secretd_ca::{CertificateDer, JoinToken, NodeKey};
use secretd_core::seam::clock::{Clock, SystemClock};
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::v1;
use secretd_proto::v1::admission_client::AdmissionClient;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::lab::Lab;

/// A node that is none.
pub struct Stranger {
    /// As the cluster knows it.
    pub id: String,
    /// Whether it was admitted as a manager.
    pub manager: bool,
    /// Its key.
    pub key: NodeKey,
    /// To the manager that has admitted it.
    pub channel: Channel,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger").field("id", &self.id).field("manager", &self.manager).finish_non_exhaustive()
    }
}

impl Stranger {
    /// Joins with a token.
    pub async fn join(token: &str, manager: &str, hostname: &str) -> Result<Self> {
        let token: JoinToken = token.parse()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let key = NodeKey::generate()?;
        let (config, _root) = joining_config(token.root, Arc::clone(&clock))?;
        let description = v1::NodeDescription { hostname: hostname.to_owned(), ..v1::NodeDescription::default() };
        let request = v1::AdmitRequest {
            secret: token.secret.expose().to_vec(),
            request: key.request()?,
            address: "10.77.0.99:7377".to_owned(), // nobody is there
            description: Some(description),
            availability: v1::node::Availability::Active.into(),
        };
        let admitted = AdmissionClient::new(channel(manager, config).await?).admit(request).await?.into_inner();
        let roots: Vec<CertificateDer<'static>> = admitted.roots.into_iter().map(CertificateDer::from).collect();
        let own = Credentials { certificate: admitted.certificate.into(), key, chain: roots.clone() };
        let config = client_config(&own, &roots, clock)?;
        let channel = channel(manager, Arc::clone(&config)).await?;
        Ok(Self { id: admitted.node_id, manager: admitted.manager, key: own.key, channel, config })
    }

    /// To another manager, with the same certificate.
    pub async fn connect(&self, manager: &str) -> Result<Channel> {
        channel(manager, Arc::clone(&self.config)).await
    }
}

/// The code of a refusal.
pub fn code(status: &Status) -> Option<Code> {
    status.metadata().get(METADATA_KEY).and_then(|code| code.to_str().ok()).and_then(Code::parse)
}

/// One connection, as nodes make them: see `secretd/src/cluster/links.rs`.
async fn channel(address: &str, config: Arc<ClientConfig>) -> Result<Channel> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = Some(TokioIo::new(TlsConnector::from(config).connect(manager_name(), stream).await?));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)) }
    });
    Ok(Endpoint::from_static("http://manager.secretd").connect_with_connector(connector).await?)
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
