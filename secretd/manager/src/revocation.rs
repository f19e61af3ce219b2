//! Operators' certificates that were taken back, and the end of the streams that such operators have open: a call is
//! judged when it begins, and some go on for hours.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use secretd_proto::code::Code;
use secretd_store::{Event, Store, View};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use crate::caller::Caller;
use crate::manager::Ended;
use crate::refusal::Refusal;

/// Calls whose answers go on.
pub(crate) const STREAMS: [&str; 6] =
    ["Backup", "WatchService", "ServiceLogs", "Exec", "WatchEvents", "WatchAuthority"];

type Revoked = BTreeSet<[u8; 32]>;

/// The fingerprints of the certificates that were taken back, as they change. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Revocations(Arc<watch::Sender<Revoked>>);

impl Revocations {
    pub(crate) fn new(store: &Store) -> Self {
        Self(Arc::new(watch::Sender::new(revoked(&store.view()))))
    }

    /// Keeps it true, for as long as the store lives.
    pub(crate) async fn follow(self, store: Store) -> Result<Infallible, Ended> {
        loop {
            let (view, mut changes) = store.view_and_watch();
            self.set(&view);
            while let Some(change) = changes.next().await {
                if change.events.iter().any(|event| matches!(event, Event::ClusterUpdated { .. })) {
                    self.set(&change.view);
                }
            }
            if store.is_closed() {
                return Err(Ended::StoreClosed);
            }
        }
    }

    fn set(&self, view: &View) {
        let now = revoked(view);
        self.0.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
    }

    /// Ends the answer to an operator's call when its certificate is taken back.
    pub(crate) fn over(&self, caller: &Caller, path: &str, response: Response<Body>) -> Response<Body> {
        let method = path.rsplit('/').next().unwrap_or_default();
        let Caller::Operator { shown, .. } = caller else { return response };
        if !STREAMS.contains(&method) {
            return response;
        }
        let (fingerprint, mut revoked) = (*shown.fingerprint.as_bytes(), self.0.subscribe());
        let refusal =
            Refusal::new(Code::PermissionDenied, format!("{caller} is refused: its certificate was taken back"));
        let taken_back = Box::pin(async move {
            if revoked.wait_for(|revoked| revoked.contains(&fingerprint)).await.is_err() {
                std::future::pending::<()>().await; // the manager ends, and the answer with it
            }
        });
        response.map(|body| {
            let open = Some((BodyStream::new(body), taken_back, refusal));
            Body::new(StreamBody::new(stream::unfold(open, |open| async {
                let (mut frames, mut taken_back, refusal) = open?;
                tokio::select! {
                    biased;
                    () = &mut taken_back => {
                        let trailers = last(refusal)?;
                        let mut end = Box::pin(Empty::<Bytes>::new().with_trailers(async { Some(Ok(trailers)) }));
                        let Ok(frame) = end.frame().await?;
                        Some((Ok(frame), None))
                    }
                    frame = frames.next() => Some((frame?, Some((frames, taken_back, refusal)))),
                }
            })))
        })
    }
}

fn revoked(view: &View) -> Revoked {
    let operators = view.cluster_record().into_iter().flat_map(|record| &record.operators);
    operators.filter(|operator| operator.revoked_at.is_some()).map(|operator| operator.fingerprint).collect()
}

/// The end of an answer that says why.
fn last(refusal: Refusal) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    Status::from(refusal).add_header(&mut trailers).ok()?;
    Some(trailers)
}
