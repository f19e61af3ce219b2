//! Channels to other managers: HTTP/2 over TLS, both ends shown. They connect when they are used, and again when they broke.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use secretd_ca::tls::manager_name;
use secretd_ca::{Identity, NodeRole, Subject};
use secretd_manager::{Links, Unreached};
use secretd_proto::id::NodeId;
use secretd_store::Member;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::credentials::{Own, Present};

/// How long a connection may take to come about, handshake included.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection on which nothing comes for so long is asked for a sign of life: longer than the pause between two
/// heartbeats, which are signs of life themselves.
const QUIET: Duration = Duration::from_millis(1500);
/// How long that may take before the connection is given up.
const SIGN: Duration = Duration::from_secs(1);
/// Windows of HTTP/2 (RFC 9113, 6.9.2) that take the largest secret without waiting for the other side.
const STREAM: u32 = 2 << 20;

/// What a connection is for: what is large must not delay what is urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Calls that are handed on, and those of the agent.
    Calls,
    /// Raft's signs of life, and votes.
    Urgent,
    /// Raft's entries and snapshots.
    Bulk,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    address: String,
    /// Who must answer; any manager without.
    node: Option<NodeId>,
    purpose: Purpose,
}

/// Channels to managers. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Mesh {
    own: Present,
    channels: Arc<Mutex<HashMap<Target, Channel>>>,
    /// Counts this node's certificates.
    certificates: Arc<watch::Sender<u64>>,
}

impl Mesh {
    pub(crate) fn new(own: Present) -> Self {
        Self { own, channels: Arc::default(), certificates: Arc::new(watch::Sender::new(1)) }
    }

    /// A channel to the manager at `address`, which must be `node` if that is given.
    pub(crate) fn to(&self, address: &str, node: Option<NodeId>, purpose: Purpose) -> Channel {
        let target = Target { address: address.to_owned(), node, purpose };
        let mut channels = self.channels.lock();
        channels.entry(target.clone()).or_insert_with(|| self.make(target)).clone()
    }

    /// From now on every channel is a new one: this node has other credentials.
    pub(crate) fn renew(&self, own: Own) {
        self.own.set(own);
        self.channels.lock().clear();
        self.certificates.send_modify(|number| *number += 1);
    }

    /// From now on other roots count, for new connections.
    pub(crate) fn adopt(&self, own: Own) {
        self.own.set(own);
    }

    /// Counts this node's certificates.
    pub(crate) fn certificates(&self) -> watch::Receiver<u64> {
        self.certificates.subscribe()
    }

    fn make(&self, target: Target) -> Channel {
        let own = self.own.clone();
        let connector = tower::service_fn(move |_| {
            let (own, target) = (own.get(), target.clone());
            async move { Ok::<_, Unreached>(TokioIo::new(connect_as(&own, &target).await?)) }
        });
        endpoint().connect_with_connector_lazy(connector)
    }
}

impl Links for Mesh {
    fn channel(&self, to: &Member) -> Channel {
        self.to(&to.address, Some(to.node), Purpose::Calls)
    }
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://manager.secretd")
        .initial_stream_window_size(STREAM)
        .initial_connection_window_size(2 * STREAM)
        .http2_keep_alive_interval(QUIET)
        .keep_alive_timeout(SIGN)
}

/// A channel on a connection that is there already.
///
/// # Errors
/// When the other end speaks no HTTP/2.
pub(crate) async fn channel_on(stream: TlsStream<TcpStream>) -> Result<Channel, tonic::transport::Error> {
    let stream = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_| {
        let stream = stream.lock().take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)) }
    });
    endpoint().connect_with_connector(connector).await
}

/// Connects to a manager, whoever it may be as far as `config` is satisfied.
///
/// # Errors
/// The system's, or those of TLS.
pub(crate) async fn connect(address: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(manager_name(), stream).await
    };
    timeout(CONNECT, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn connect_as(own: &Own, target: &Target) -> io::Result<TlsStream<TcpStream>> {
    let stream = connect(&target.address, Arc::clone(&own.client)).await?;
    let refused = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {why}", target.address));
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let subject = shown.and_then(|certificate| Subject::of(certificate).ok());
    let Some(Subject { cluster, identity: Identity::Node { id, role: NodeRole::Manager } }) = subject else {
        return Err(refused("it has shown no manager's certificate".to_owned()));
    };
    if cluster != own.cluster {
        return Err(refused("it is of another cluster".to_owned()));
    }
    match target.node {
        Some(node) if node != id => Err(refused(format!("it is node {id}, not {node}"))),
        Some(_) | None => Ok(stream),
    }
}
