//! The listener of a manager: TLS connections of nodes and operators, each call with who makes it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use secretd_ca::identity::Validity;
use secretd_ca::{CertificateDer, Fingerprint, Identity, RootDigest, Subject, tls};
use secretd_core::seam::clock::Clock;
use secretd_manager::door::Door;
use secretd_manager::{Caller, Shown};
use secretd_proto::v1::admission_server::AdmissionServer;
use secretd_proto::v1::control_server::ControlServer;
use secretd_proto::v1::dispatcher_server::DispatcherServer;
use secretd_proto::v1::raft_server::RaftServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tower::util::MapRequestLayer;

use super::credentials::{Own, Present};
use crate::server::server;

/// How long a handshake may take: who connects and says nothing must not stay.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at the same time: each holds a descriptor for somebody who is not known yet.
const HANDSHAKES: usize = 256;
/// After a connection could not be taken, usually because there are no descriptors left.
const REFUSED: Duration = Duration::from_millis(100);
/// A connection without a word is asked for a sign of life after so long, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Takes the address: before anything else is done that would have to be undone.
///
/// # Errors
/// When it is in use or none of this system.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves the manager behind `door`, until `stop` is called: then every connection breaks.
pub(crate) async fn serve(
    listener: TcpListener,
    own: Present,
    door: Door,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let (sender, incoming) = mpsc::channel::<io::Result<Connection>>(16);
    let (present, at_door) = (own.clone(), door.clone());
    let accepting = accept(listener, own, sender, stop.clone());
    let who = MapRequestLayer::new(move |mut request: http::Request<tonic::body::Body>| {
        let roots = Roots::of(&present.get(), at_door.roots());
        let peer = request.extensions().get::<Peer>();
        let caller = peer.map_or(Caller::Anonymous { from: None }, |peer| peer.caller(&*clock, &roots));
        request.extensions_mut().insert(caller);
        request
    });
    let router = server()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(who)
        .add_service(door.named::<ControlServer<()>>())
        .add_service(door.named::<DispatcherServer<()>>())
        .add_service(door.named::<RaftServer<()>>())
        .add_service(door.named::<AdmissionServer<()>>());
    let serving = router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.cancelled());
    let (served, ()) = tokio::join!(serving, accepting);
    if let Err(error) = served {
        tracing::error!(error = &error as &dyn std::error::Error, "the listener has ended");
    }
}

async fn accept(
    listener: TcpListener,
    own: Present,
    sender: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted, // cancel-safe
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(REFUSED).await;
                continue;
            }
        };
        let (config, sender, stop) = (Arc::clone(&own.get().server), sender.clone(), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let shaking = stop.run_until_cancelled(timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)));
            match shaking.await {
                Some(Ok(Ok(stream))) => {
                    let _ = stream.get_ref().0.set_nodelay(true); // slower without, nothing else
                    let _ = sender.send(Ok(Connection::new(stream, stop.clone()))).await; // the listener ends
                }
                Some(Ok(Err(error))) => tracing::info!(%from, %error, "a handshake has failed"),
                Some(Err(_)) => tracing::info!(%from, "a handshake has not come to its end in time"),
                None => {}
            }
        });
    }
}

/// The roots that certificates may be of.
struct Roots {
    all: Vec<Vec<u8>>,
    /// The first of all, where the state does not know it yet.
    ahead: Option<RootDigest>,
}

impl Roots {
    /// What the state says is newer than what this node has made of it; but a new member, and one that was away, has an old
    /// state until it has been given the present one, by a leader whose root it has been told of.
    fn of(own: &Own, state: Option<Vec<Vec<u8>>>) -> Self {
        let Some(mut all) = state else {
            return Self { all: own.roots.iter().map(|root| root.to_vec()).collect(), ahead: None };
        };
        let newest = own.roots.first().filter(|newest| !all.iter().any(|root| root.as_slice() == newest.as_ref()));
        if let Some(newest) = newest {
            all.insert(0, newest.to_vec());
        }
        Self { all, ahead: newest.map(RootDigest::of) }
    }
}

/// Who is at the other end, as the handshake has shown.
#[derive(Debug, Clone)]
struct Peer {
    from: Option<IpAddr>,
    known: Option<Arc<Known>>,
}

/// Somebody with a certificate.
#[derive(Debug)]
struct Known {
    identity: Identity,
    validity: Validity,
    fingerprint: Fingerprint,
    /// The certificate, and what came with it.
    chain: Vec<CertificateDer<'static>>,
    /// Which root has made it, and of which roots that was found.
    issuer: Mutex<(Vec<Vec<u8>>, RootDigest)>,
}

impl Peer {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let from = stream.get_ref().0.peer_addr().ok().map(|peer| peer.ip().to_canonical());
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let known = chain.first().and_then(|certificate| {
            let known = Known {
                identity: Subject::of(certificate).ok()?.identity,
                validity: Validity::of(certificate).ok()?,
                fingerprint: Fingerprint::of(certificate),
                issuer: Mutex::new((Vec::new(), NOBODY)),
                chain: chain.to_vec(),
            };
            Some(Arc::new(known))
        });
        Self { from, known }
    }

    /// A certificate may expire, and its root be replaced, while its connection goes on.
    fn caller(&self, clock: &dyn Clock, roots: &Roots) -> Caller {
        let Some(known) = &self.known else { return Caller::Anonymous { from: self.from } };
        let (issuer, not_after) = (known.issuer(&roots.all), known.validity.not_after);
        let shown = Shown { fingerprint: known.fingerprint, issuer, not_after, is_ahead: roots.ahead == Some(issuer) };
        Caller::of_certificate(known.identity.clone(), shown, known.validity.is_expired(clock.now()))
    }
}

/// The issuer of what none of the roots has made.
const NOBODY: RootDigest = RootDigest::from_bytes([0; 32]);

impl Known {
    fn issuer(&self, roots: &[Vec<u8>]) -> RootDigest {
        let mut found = self.issuer.lock();
        if found.0 != roots {
            let of: Vec<_> = roots.iter().cloned().map(CertificateDer::from).collect();
            let issuer = self.chain.split_first().and_then(|(own, others)| tls::issuer(own, others, &of));
            *found = (roots.to_vec(), issuer.unwrap_or(NOBODY));
        }
        found.1
    }
}

/// A connection that breaks when the listener stops: nobody goes on speaking to a manager that is none any more.
struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, stop: CancellationToken) -> Self {
        Self { peer: Peer::of(&stream), stream, stopped: Box::pin(stop.cancelled_owned()) }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
