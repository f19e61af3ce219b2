//! The Control service of a node, whatever the node is at the moment: a manager's door, or a refusal that says what to do.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use parking_lot::RwLock;
use secretd_manager::door::Door;
use secretd_manager::refusal::Refusal;
use secretd_proto::v1::control_server::ControlServer;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// What answers calls of the control API. Clones are the same slot.
#[derive(Debug, Clone)]
pub(crate) struct ControlSlot(Arc<RwLock<Result<Door, Refusal>>>);

impl ControlSlot {
    pub(crate) fn new(refusal: Refusal) -> Self {
        Self(Arc::new(RwLock::new(Err(refusal))))
    }

    /// From now on the manager behind `door` answers.
    pub(crate) fn open(&self, door: Door) {
        *self.0.write() = Ok(door);
    }

    /// From now on every call is refused.
    pub(crate) fn close(&self, refusal: Refusal) {
        *self.0.write() = Err(refusal);
    }
}

impl NamedService for ControlSlot {
    const NAME: &'static str = ControlServer::<()>::NAME;
}

impl Service<Request<Body>> for ControlSlot {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.0.read().clone() {
            Ok(mut door) => door.call(request),
            Err(refusal) => Box::pin(async move { Ok(Status::from(refusal).into_http()) }),
        }
    }
}
