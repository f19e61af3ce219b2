//! The way of this node's own agent to its own manager: gRPC through pipes in this process, as it is TLS to another.

use std::io;

use hyper_util::rt::TokioIo;
use secretd_manager::Caller;
use secretd_manager::door::Door;
use secretd_proto::v1::admission_server::AdmissionServer;
use secretd_proto::v1::control_server::ControlServer;
use secretd_proto::v1::dispatcher_server::DispatcherServer;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tower::util::MapRequestLayer;

use super::credentials::Present;
use crate::server::server;

/// Bytes on their way: a payload, so that large secrets do not go in small steps.
const PIPE: usize = 1 << 20;

/// A channel to what is behind `door`, for the node itself, and what serves it until `stop` is called.
pub(crate) fn open(
    door: &Door,
    node: Present,
    stop: CancellationToken,
) -> (Channel, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = mpsc::channel::<io::Result<DuplexStream>>(4);
    let root = door.for_caller(Caller::Local { uid: 0, pid: None });
    // The node's certificate changes while the pipe stays.
    let who = MapRequestLayer::new(move |mut request: http::Request<tonic::body::Body>| {
        request.extensions_mut().insert(node.get().caller());
        request
    });
    let router = server()
        .layer(who)
        .add_service(root.named::<ControlServer<()>>())
        .add_service(door.named::<DispatcherServer<()>>())
        .add_service(door.named::<AdmissionServer<()>>());
    let serving = router.serve_with_incoming_shutdown(ReceiverStream::new(receiver), stop.cancelled_owned());
    let connector = tower::service_fn(move |_| {
        let sender = sender.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            sender.send(Ok(theirs)).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    });
    let channel = Endpoint::from_static("http://manager.secretd").connect_with_connector_lazy(connector);
    let serve = async move {
        if let Err(error) = serving.await {
            tracing::error!(error = &error as &dyn std::error::Error, "the pipe to the own manager has ended");
        }
    };
    (channel, serve)
}
