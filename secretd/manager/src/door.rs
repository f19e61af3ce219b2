//! The door of a manager: every call comes through it. It finds out who calls and whether they may, hands calls that the
//! leader alone serves on to the leader, and makes sure that what is read is the newest.
//!
//! So any manager answers any call, and the services behind the door know nothing of other managers.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use secretd_ca::NodeRole;
use secretd_proto::code::{Class, Code, METADATA_KEY};
use secretd_proto::id::NodeId;
use secretd_store::{Member, Store};
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::UdsConnectInfo;
use tower::{Service, ServiceExt as _};

use crate::audit::{self, Refusals};
use crate::authorize::{METADATA, authorize, counts, may_be_new};
use crate::caller::Caller;
use crate::forward::{self, Attempt, Repeatable, refused};
use crate::links::Links;
use crate::raft_service::Unknown;
use crate::refusal::Refusal;
use crate::revocation::Revocations;

/// For whom a manager calls.
const CALLER: &str = "secretd-caller";
/// Asks for what this manager knows, whether or not it is the newest.
const READ: &str = "secretd-read";
/// Marks an answer that need not be the newest: the version of the state that it was made from.
const STALE: &str = "secretd-stale";

/// How long a call waits for a leader to be elected.
const ELECTION: Duration = Duration::from_secs(5);

/// The door of one manager. Clones are the same door.
#[derive(Clone)]
pub struct Door {
    store: Store,
    links: Arc<dyn Links>,
    routes: Routes,
    revocations: Revocations,
    /// Who calls, where the transport does not tell.
    caller: Option<Caller>,
    refusals: Refusals,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// What is to be done with a call.
enum Way {
    Here,
    /// Here, and elsewhere when this manager leads no more before it is done.
    Own,
    /// Here, once it is sure that nothing newer was acknowledged than what is told. Whoever has handed it on asks elsewhere
    /// otherwise.
    HereLeading,
    /// Here, marked as perhaps not the newest.
    HereStale,
    /// At the manager that leads.
    Leader(Member),
}

impl Door {
    pub(crate) fn new(store: Store, links: Arc<dyn Links>, routes: Routes, revocations: Revocations) -> Self {
        Self { store, links, routes, revocations, caller: None, refusals: Refusals::default() }
    }

    /// The same door for a connection of which is known who is at the other end.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { caller: Some(caller), ..self.clone() }
    }

    /// The roots that certificates may be of, as the state has them now, those that count for renewals alone last; `None`
    /// before there is a state.
    pub fn roots(&self) -> Option<Vec<Vec<u8>>> {
        let view = self.store.view();
        let cluster = view.cluster()?;
        let retired = cluster.retired.iter().map(|retired| &retired.root);
        Some(cluster.roots.iter().chain(retired).cloned().collect())
    }

    /// The door as one of the services behind it, for a server that wants to know their names.
    pub fn named<S: NamedService>(&self) -> Named<S> {
        Named { door: self.clone(), name: PhantomData }
    }

    async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        match self.admit(&mut request).await {
            Ok((caller, Way::Leader(leader))) => self.at_leader(request, &caller, Some(leader)).await,
            Ok((caller, Way::Own)) => self.at_leader(request, &caller, None).await,
            Ok((caller, Way::HereStale)) => {
                let version = self.store.view().version().0;
                let path = request.uri().path().to_owned();
                let revocations = self.revocations.clone();
                let mut response = revocations.over(&caller, &path, self.serve(request).await);
                response.headers_mut().insert(STALE, HeaderValue::from(version));
                response
            }
            Ok((caller, Way::HereLeading)) => {
                let path = request.uri().path().to_owned();
                self.revocations.over(&caller, &path, self.serve_as(&path, request).await)
            }
            Ok((caller, Way::Here)) => {
                let (path, revocations) = (request.uri().path().to_owned(), self.revocations.clone());
                revocations.over(&caller, &path, self.serve(request).await)
            }
            Err(refusal) => refused(refusal),
        }
    }

    /// Who calls, and where to.
    async fn admit(&self, request: &mut Request<Body>) -> Result<(Caller, Way), Refusal> {
        let path = request.uri().path().to_owned();
        let at_door = self.caller.clone().or_else(|| {
            let extensions = request.extensions();
            let said = extensions.get::<Caller>().cloned();
            said.or_else(|| Caller::of_connection(extensions.get::<UdsConnectInfo>()?))
        });
        let at_door = at_door.unwrap_or(Caller::Anonymous { from: None });
        let (caller, is_forwarded) = match request.headers_mut().remove(CALLER) {
            Some(named) => (self.named_caller(&at_door, &named, &path)?, true),
            None => (at_door, false),
        };
        let refused = match self.judge(&path, &caller) {
            Err(refusal) if self.may_be_behind(&path, &refusal) => Some(refusal),
            Err(refusal) => {
                self.refusals.record(&caller, &path, &refusal);
                if !self.is_unknown_manager(&caller, &path) {
                    return Err(refusal);
                }
                request.extensions_mut().insert(Unknown(refusal));
                None
            }
            Ok(()) => {
                self.refusals.forget(&caller, &path);
                None
            }
        };
        if refused.is_some() && path.starts_with("/secretd.v1.Dispatcher/") {
            // Sessions are the leader's, and so is the word on who may have one.
            let leader = self.store.replica().and_then(|replica| replica.leadership().leader);
            return Err(Refusal::not_leader(leader.as_ref()));
        }
        request.extensions_mut().insert(caller.clone());
        let wants_stale = request.headers().get(READ).is_some_and(|how| how == "stale");
        let way = self.way(&path, wants_stale, is_forwarded).await?;
        let is_answered_here = path.starts_with("/secretd.v1.Control/") && !matches!(way, Way::Leader(_));
        if refused.is_some() && is_answered_here {
            self.judge(&path, &caller).map_err(|refusal| on_record(&caller, &path, refusal))?;
        }
        Ok((caller, way))
    }

    /// Whether a call may be made, as far as this manager knows.
    fn judge(&self, path: &str, caller: &Caller) -> Result<(), Refusal> {
        authorize(path, caller, &self.store.view(), |node| self.takes_part(node))
    }

    /// Whether raft listens to a node that shows a manager's certificate. A manager that knows of no leader may be behind,
    /// and the leader may be one that was added since: it believes the certificate of a node that it has not heard of.
    fn takes_part(&self, node: &NodeId) -> bool {
        let Some(replica) = self.store.replica() else { return false };
        let may_be_behind = || replica.leadership().leader.is_none() && may_be_new(node, &self.store.view());
        self.is_member(node) || may_be_behind()
    }

    fn is_member(&self, node: &NodeId) -> bool {
        let members = self.store.replica().map(|replica| replica.members()).unwrap_or_default();
        members.iter().any(|status| status.member.node == *node)
    }

    /// A manager that does not lead may not have heard of a new node or operator yet: the leader knows.
    fn may_be_behind(&self, path: &str, refusal: &Refusal) -> bool {
        let asks_leader = path.starts_with("/secretd.v1.Dispatcher/") || path.starts_with("/secretd.v1.Admission/");
        let is_new_node = refusal.code == Code::NodeRemoved && asks_leader;
        let is_new_operator = refusal.code == Code::NotOnRecord && path.starts_with("/secretd.v1.Control/");
        (is_new_node || is_new_operator) && !self.store.leads()
    }

    /// Whether a manager that was refused asks something of raft and was never heard of: it may be the state here that went
    /// back. The word of one that was removed does not count.
    fn is_unknown_manager(&self, caller: &Caller, path: &str) -> bool {
        let is_heard = ["/secretd.v1.Raft/Append", "/secretd.v1.Raft/Vote"].contains(&path);
        let Caller::Node { role: NodeRole::Manager, expired: false, id, .. } = caller else { return false };
        let view = self.store.view();
        is_heard && may_be_new(id, &view) && counts(caller, &view, false).is_ok()
    }

    /// For whom a manager calls: nobody else may say so. A demoted one is a manager until raft does without its vote.
    fn named_caller(&self, at_door: &Caller, named: &HeaderValue, path: &str) -> Result<Caller, Refusal> {
        let named = named.to_str().ok().and_then(Caller::from_header);
        let view = self.store.view();
        let is_manager = match at_door {
            Caller::Node { id, role: NodeRole::Manager, expired: false, .. } => {
                view.node(id).is_some_and(|node| node.manager) || self.is_member(id)
            }
            Caller::Node { .. } | Caller::Local { .. } | Caller::Operator { .. } | Caller::Anonymous { .. } => false,
        };
        match named {
            Some(named) if is_manager && counts(at_door, &view, false).is_ok() => Ok(named),
            _ => {
                // Whoever called there is told it: one that was demoted is to hear of it first.
                let was_manager = matches!(at_door, Caller::Node { id, role: NodeRole::Manager, expired: false, .. } if view.node(id).is_some());
                let refusal = match was_manager {
                    true => Refusal::new(
                        Code::NotManager,
                        "this node is not a cluster manager any more: run this command on a manager node",
                    ),
                    false => Refusal::new(Code::PermissionDenied, format!("{at_door} may not call for others")),
                };
                audit::refused(at_door, path, &refusal);
                Err(refusal)
            }
        }
    }

    async fn way(&self, path: &str, wants_stale: bool, is_forwarded: bool) -> Result<Way, Refusal> {
        let served_by_leader = path.starts_with("/secretd.v1.Control/") || path.starts_with("/secretd.v1.Admission/");
        if !served_by_leader {
            return Ok(Way::Here);
        }
        let reads = reads(path);
        if wants_stale && reads && path.starts_with("/secretd.v1.Control/") {
            return Ok(Way::HereStale);
        }
        let repeats = !path.ends_with("/Exec"); // its messages come one by one
        // Whoever hands calls on waits by itself: a manager that has been taken out hears of no election.
        let leader = if is_forwarded && repeats { self.leader_now()? } else { self.leader().await? };
        match leader {
            None if !repeats => Ok(Way::HereLeading),
            None if !is_forwarded => Ok(Way::Own),
            None => Ok(Way::HereLeading),
            Some(leader) if is_forwarded => Err(Refusal::not_leader(Some(&leader))),
            Some(leader) => Ok(Way::Leader(leader)),
        }
    }

    /// The manager that leads; `None` when it is this one. Waits for an election that is under way.
    async fn leader(&self) -> Result<Option<Member>, Refusal> {
        let Some(replica) = self.store.replica() else { return Ok(None) };
        let mut watch = replica.watch_leadership();
        let settled = async {
            while let Some(now) = watch.next().await {
                match now.leader {
                    Some(_) if now.leads => return Ok(None),
                    Some(leader) if leader.node != replica.own_node() => return Ok(Some(leader)),
                    Some(_) | None => {} // nobody yet, or this one, which is still catching up
                }
            }
            Err(Refusal::from(secretd_store::ProposeError::Closed))
        };
        match timeout(ELECTION, settled).await {
            Ok(settled) => settled,
            Err(_) => Err(replica.no_quorum().into()),
        }
    }

    /// That this manager leads at this moment. Whoever has handed a call on to it was mistaken otherwise, and will know better
    /// when it asks again.
    fn leader_now(&self) -> Result<Option<Member>, Refusal> {
        let Some(replica) = self.store.replica() else { return Ok(None) };
        let now = replica.leadership();
        if now.leads { Ok(None) } else { Err(Refusal::not_leader(now.leader.as_ref())) }
    }

    async fn linearize(&self) -> Result<(), Refusal> {
        match self.store.replica() {
            Some(replica) => replica.linearize().await.map_err(Refusal::from),
            None => Ok(()),
        }
    }

    async fn serve(self, request: Request<Body>) -> Response<Body> {
        match self.routes.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Has the call answered by the manager that leads, whichever that will be; `None` is this one.
    async fn at_leader(&self, mut request: Request<Body>, caller: &Caller, leader: Option<Member>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let Ok(header) = HeaderValue::from_str(&caller.to_header()) else {
            return refused(Refusal::new(Code::Internal, "the caller's name cannot be handed on"));
        };
        request.headers_mut().insert(CALLER, header);
        if let Some(leader) = leader.as_ref().filter(|_| path.ends_with("/Exec")) {
            return forward::once(&*self.links, leader, request).await; // its messages come one by one
        }
        let until = Instant::now() + ELECTION;
        let repeatable = match Repeatable::of(request, reads(&path)).await {
            Ok(repeatable) => repeatable,
            Err(refusal) => return refused(refusal),
        };
        let mut leader = leader;
        loop {
            let attempt = match &leader {
                Some(there) => repeatable.attempt(&*self.links, there).await,
                None => {
                    // It may have been asked before this manager had the state that judges it.
                    if let Err(refusal) = self.judge(&path, caller) {
                        return refused(on_record(caller, &path, refusal));
                    }
                    let answer = self.serve_as(&path, repeatable.request()).await;
                    Attempt::of(self.revocations.over(caller, &path, answer))
                }
            };
            let refusal = match attempt {
                Attempt::Answered(response) => return response,
                Attempt::Again(refusal) => refusal,
            };
            if !forward::pause(until).await {
                return refused(refusal);
            }
            leader = match self.leader().await {
                Ok(leader) => leader,
                Err(refusal) => return refused(refusal),
            };
        }
    }

    /// Answers a call that this manager serves as the leader.
    async fn serve_as(&self, path: &str, request: Request<Body>) -> Response<Body> {
        if (reads(path) || shows(path))
            && let Err(refusal) = self.linearize().await
        {
            return refused(refusal);
        }
        let response = self.clone().serve(request).await;
        // That something is not there, or in the way, is told of the state: one whom another has replaced does not know.
        if !reads(path)
            && tells_of_state(&response)
            && let Err(refusal) = self.linearize().await
        {
            return refused(refusal);
        }
        response
    }
}

/// Writes a refusal down.
fn on_record(caller: &Caller, path: &str, refusal: Refusal) -> Refusal {
    audit::refused(caller, path, &refusal);
    refusal
}

/// Whether an answer is a refusal because of what there is or is not.
fn tells_of_state(response: &Response<Body>) -> bool {
    let code = response.headers().get(METADATA_KEY).and_then(|code| Code::parse(code.to_str().ok()?));
    code.is_some_and(|code| matches!(code.class(), Class::NotFound | Class::Conflict))
}

/// Whether a call changes nothing. A new certificate says what the node is to be: that must be the newest too.
fn reads(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    METADATA.contains(&method) || ["Backup", "WatchEvents", "Renew"].contains(&method)
}

/// Whether a call that is no reading, because of what else it may do, shows what the state has all the same.
fn shows(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap_or_default();
    ["GetJoinToken", "GetUnlockKey", "ServiceLogs", "Exec"].contains(&method)
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let door = self.clone();
        Box::pin(async move { Ok(door.answer(request).await) })
    }
}

/// The door under the name of a service behind it.
pub struct Named<S> {
    door: Door,
    name: PhantomData<fn() -> S>,
}

impl<S> Clone for Named<S> {
    fn clone(&self) -> Self {
        Self { door: self.door.clone(), name: PhantomData }
    }
}

impl<S> fmt::Debug for Named<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.door.fmt(f)
    }
}

impl<S: NamedService> NamedService for Named<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Named<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.door.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        self.door.call(request)
    }
}
