//! Hands a call on to the manager that leads. While the leadership passes from one to another, whoever calls waits: what
//! was certainly not done, and what changes nothing, is asked for again.

use std::io;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_store::Member;
use tokio::time::{Instant, sleep};
use tonic::body::Body;
use tower::{Service, ServiceExt};

use crate::links::{Links, Unreached};
use crate::refusal::Refusal;

/// Between attempts while nobody, or nobody who answers, leads.
const PAUSE: Duration = Duration::from_millis(10);
/// A message and what gRPC puts before it.
const LONGEST_BODY: usize = MAX_MESSAGE_LENGTH + 5;

/// A call that can be made more than once.
#[derive(Debug, Clone)]
pub(crate) struct Repeatable {
    request: Request<Full<bytes::Bytes>>,
    /// Whether it changes nothing.
    reads: bool,
}

/// What came of an attempt.
pub(crate) enum Attempt {
    Answered(Response<Body>),
    /// Nothing was done, or nothing would have been: it may be made again.
    Again(Refusal),
}

impl Attempt {
    /// What an answer says.
    pub(crate) fn of(response: Response<Body>) -> Self {
        match is_not_leader(&response) {
            true => Self::Again(Refusal::not_leader(None)),
            false => Self::Answered(response),
        }
    }
}

impl Repeatable {
    /// Waits for the whole of a call that has one message.
    ///
    /// # Errors
    /// When it is too long, or its caller goes away.
    pub(crate) async fn of(request: Request<Body>, reads: bool) -> Result<Self, Refusal> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, LONGEST_BODY).collect().await;
        let body = body.map_err(|error| Refusal::invalid(format!("the call cannot be read: {error}")))?;
        Ok(Self { request: Request::from_parts(head, Full::new(body.to_bytes())), reads })
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let (head, body) = self.request.clone().into_parts();
        Request::from_parts(head, Body::new(body))
    }

    pub(crate) async fn attempt(&self, links: &dyn Links, leader: &Member) -> Attempt {
        match call(links, leader, self.request()).await {
            Ok(response) => Attempt::of(response),
            Err(error) if self.reads || was_unreached(&error) => Attempt::Again(unanswered(leader, &error, false)),
            Err(error) => Attempt::Answered(refused(unanswered(leader, &error, true))),
        }
    }
}

/// A pause between attempts, unless `until` comes first.
pub(crate) async fn pause(until: Instant) -> bool {
    sleep(PAUSE).await;
    Instant::now() < until
}

/// Makes a call that cannot be made again.
pub(crate) async fn once(links: &dyn Links, leader: &Member, request: Request<Body>) -> Response<Body> {
    match call(links, leader, request).await {
        Ok(response) => response,
        Err(error) => refused(unanswered(leader, &error, true)),
    }
}

async fn call(
    links: &dyn Links,
    leader: &Member,
    request: Request<Body>,
) -> Result<Response<Body>, tonic::transport::Error> {
    links.channel(leader).ready().await?.call(request).await
}

/// A refusal as the answer to a call.
pub(crate) fn refused(refusal: Refusal) -> Response<Body> {
    tonic::Status::from(refusal).into_http()
}

fn is_not_leader(response: &Response<Body>) -> bool {
    let code = response.headers().get(METADATA_KEY);
    code.map(HeaderValue::as_bytes) == Some(Code::NotLeader.as_str().as_bytes())
}

/// Whether the connection did not come about: then nothing was sent.
fn was_unreached(error: &tonic::transport::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Unreached>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn unanswered(leader: &Member, error: &tonic::transport::Error, was_sent: bool) -> Refusal {
    tracing::debug!(%leader, error = error as &dyn std::error::Error, "the leader has not answered");
    let message = if was_sent {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let ended = cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        let cause = if ended { "the connection has ended".to_owned() } else { cause.to_string() };
        format!(
            "manager {leader}, which leads, has not answered ({cause}): whether a change was made is not known: look, and repeat it"
        )
    } else {
        format!("manager {leader}, which leads, is not reached, and no other one leads yet: repeat the command")
    };
    Refusal::new(Code::NoQuorum, message)
}
