//! The Dispatcher service: what agents speak to.
//!
//! Reading order: [`session`] (who is connected), [`assignment_set`] (what a node is to know, pure), [`grant`] (wrapping
//! data keys), [`feed`] (assignments as messages), [`position`] (how far the cluster has come), [`report`] (what nodes say of tasks) and [`broker`] (logs and exec).

pub(crate) mod assignment_set;
pub(crate) mod broker;
pub(crate) mod feed;
pub(crate) mod grant;
pub(crate) mod position;
pub(crate) mod report;
pub(crate) mod session;

use std::sync::Arc;

use futures::stream;
use secretd_core::node::{ClusterSpec, NodeCertificate, NodeDescription, NodeState};
use secretd_core::seam::clock::Clock;
use secretd_core::wire::duration_to_wire;
use secretd_proto::code::Code;
use secretd_proto::id::{NodeId, SessionId};
use secretd_proto::v1;
use secretd_proto::v1::dispatcher_server::Dispatcher;
use secretd_store::{Op, Store};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::broker::Broker;
use self::feed::Feed;
use self::position::Positions;
use self::session::{Opened, Sessions};
use crate::api::Messages;
use crate::authorize::authorize;
use crate::caller::Caller;
use crate::directory::Directories;
use crate::refusal::Refusal;

/// The call whose stream carries signs of life.
const HEARTBEATS: &str = "/secretd.v1.Dispatcher/Heartbeat";

/// The Dispatcher service.
#[derive(Debug, Clone)]
pub(crate) struct DispatcherService {
    store: Store,
    sessions: Sessions,
    broker: Broker,
    directories: Directories,
    positions: Positions,
    clock: Arc<dyn Clock>,
}

impl DispatcherService {
    pub(crate) fn new(
        store: Store,
        sessions: Sessions,
        broker: Broker,
        directories: Directories,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let positions = Positions::new(store.clone());
        Self { store, sessions, broker, directories, positions, clock }
    }

    /// Sessions are the leader's.
    fn check_leads(&self) -> Result<(), Refusal> {
        match self.store.replica() {
            Some(replica) => {
                let now = replica.leadership();
                if now.leads { Ok(()) } else { Err(Refusal::not_leader(now.leader.as_ref())) }
            }
            None => Ok(()),
        }
    }

    fn heartbeat(&self) -> std::time::Duration {
        self.store.view().cluster().map_or(ClusterSpec::HEARTBEAT, |cluster| cluster.spec.heartbeat)
    }

    /// Records that a node is there, what it says of itself, and the certificate that it shows.
    async fn greet(
        &self,
        node: NodeId,
        description: NodeDescription,
        shown: Option<NodeCertificate>,
    ) -> Result<(), Refusal> {
        let view = self.store.view();
        if view.cluster().is_none() {
            return Err(Refusal::not_initialized());
        }
        let known = view
            .node(&node)
            .ok_or_else(|| Refusal::new(Code::NotFound, format!("node {node} is not part of this cluster")))?;
        let mut ops = Vec::new();
        if known.description != description {
            ops.push(Op::SetNodeDescription { id: node, description });
        }
        if known.state != NodeState::Ready {
            ops.push(Op::SetNodeStatus { id: node, state: NodeState::Ready, message: String::new() });
        }
        if let Some(certificate) = shown.filter(|shown| known.certificate != Some(*shown)) {
            ops.push(Op::SetNodeCertificate { id: node, certificate });
        }
        if !ops.is_empty() {
            self.store.propose(ops).await?;
        }
        Ok(())
    }

    /// Takes a sign of life. Whoever was removed meanwhile, or has a certificate that does not count any more, is refused, as
    /// in a call of its own.
    fn beat(&self, caller: Option<&Caller>, beat: &v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse, Refusal> {
        if let Some(caller) = caller {
            authorize(HEARTBEATS, &caller.at(self.clock.now()), &self.store.view(), |_| false)?;
        }
        self.session(caller, &beat.session_id)?; // before it counts: nobody keeps another node alive
        let session: Option<SessionId> = beat.session_id.parse().ok();
        session.and_then(|session| self.sessions.beat(session)).ok_or_else(no_session)?;
        Ok(v1::HeartbeatResponse { position: Some(self.positions.present()) })
    }

    /// Whose session it is: the caller's, and nobody else's.
    fn session(&self, caller: Option<&Caller>, text: &str) -> Result<(NodeId, CancellationToken), Refusal> {
        let session: Option<SessionId> = text.parse().ok();
        let found = session.and_then(|session| self.sessions.find(session)).ok_or_else(no_session)?;
        speaks_for(caller, found.0)?;
        Ok(found)
    }
}

/// What is remembered of the certificate that a node shows.
fn shown(caller: &Caller) -> Option<NodeCertificate> {
    let Caller::Node { shown, .. } = caller else { return None };
    Some(NodeCertificate {
        issuer: *shown.issuer.as_bytes(),
        fingerprint: *shown.fingerprint.as_bytes(),
        not_after: shown.not_after,
    })
}

/// A node speaks for itself alone, whatever session it names.
fn speaks_for(caller: Option<&Caller>, node: NodeId) -> Result<(), Refusal> {
    match caller {
        Some(Caller::Node { id, .. }) if *id != node => {
            Err(Refusal::new(Code::PermissionDenied, format!("node {id} is not node {node}")))
        }
        Some(_) | None => Ok(()),
    }
}

fn no_session() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such session (any more): begin a new one")
}

#[tonic::async_trait]
impl Dispatcher for DispatcherService {
    type SessionStream = Messages<v1::SessionMessage>;
    type HeartbeatStream = Messages<v1::HeartbeatResponse>;
    type AssignmentsStream = Messages<v1::AssignmentsMessage>;
    type WorkStream = Messages<v1::WorkInput>;

    async fn session(&self, request: Request<v1::SessionRequest>) -> Result<Response<Self::SessionStream>, Status> {
        self.check_leads()?;
        let caller = Caller::of(request.extensions());
        let v1::SessionRequest { node_id, description, seen } = request.into_inner();
        let node: NodeId = node_id.parse().map_err(Refusal::invalid)?;
        speaks_for(caller.as_ref(), node)?;
        let missing = || Refusal::invalid("the node has no description");
        let description = NodeDescription::from(description.ok_or_else(missing)?);
        self.positions.vouch(node, &seen)?;
        let position = self.positions.newest().await?;
        let heartbeat = self.heartbeat();
        let opened = self.sessions.open(node, heartbeat);
        let id = opened.id;
        if let Err(refusal) = self.greet(node, description, caller.as_ref().and_then(shown)).await {
            self.sessions.close(id);
            return Err(refusal.into());
        }
        tracing::info!(node = %node, "the node's agent is connected");
        let mut news = self.directories.subscribe();
        let told = news.borrow_and_update().membership(node);
        let first = v1::SessionMessage {
            session_id: id.to_string(),
            heartbeat: Some(duration_to_wire(heartbeat)),
            work: None,
            membership: Some(told.clone()),
            position: Some(position),
        };
        let work = stream::unfold(Some((opened, news, told)), move |opened| async move {
            let (Opened { id, mut work, ended }, mut news, mut told) = opened?;
            let changed = async {
                while news.changed().await.is_ok() {
                    let now = news.borrow_and_update().membership(node);
                    if now != told {
                        return now;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                biased;
                () = ended.cancelled() => {
                    let message = "the session has ended: the node has a newer one, or has missed its heartbeats";
                    Some((Err(Status::from(Refusal::new(Code::NotFound, message))), None))
                }
                request = work.recv() => { // cancel-safe, says mpsc
                    let message = v1::SessionMessage { session_id: id.to_string(), work: Some(*request?), ..Default::default() };
                    Some((Ok(message), Some((Opened { id, work, ended }, news, told))))
                }
                now = changed => { // cancel-safe: what was not told differs still
                    told = now.clone();
                    let message = v1::SessionMessage { session_id: id.to_string(), membership: Some(now), ..Default::default() };
                    Some((Ok(message), Some((Opened { id, work, ended }, news, told))))
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(first)).chain(work))))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<v1::HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let caller = Caller::of(request.extensions());
        let begun = Some((self.clone(), request.into_inner()));
        let answers = stream::unfold(begun, move |begun| {
            let caller = caller.clone();
            async move {
                let (service, mut beats) = begun?;
                let beat = beats.message().await.ok()??;
                match service.beat(caller.as_ref(), &beat) {
                    Ok(answer) => Some((Ok(answer), Some((service, beats)))),
                    Err(refusal) => Some((Err(refusal.into()), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let id = request.into_inner().session_id;
        let (node, _) = self.session(caller.as_ref(), &id)?;
        let message = "the node has left the cluster".to_owned();
        let down = Op::SetNodeStatus { id: node, state: NodeState::Down, message };
        self.store.propose(vec![down]).await.map_err(Refusal::from)?;
        if let Ok(session) = id.parse() {
            self.sessions.end(session); // only now: nobody watches over a node without a session
        }
        tracing::info!(node = %node, "the node has left the cluster");
        Ok(Response::new(v1::LeaveResponse {}))
    }

    async fn assignments(
        &self,
        request: Request<v1::AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let caller = Caller::of(request.extensions());
        let (node, ended) = self.session(caller.as_ref(), &request.into_inner().session_id)?;
        let feed = Feed::new(&self.store, node, ended);
        Ok(Response::new(Box::pin(stream::unfold(Some(feed), |feed| async {
            let mut feed = feed?;
            match feed.next().await {
                Ok(message) => Some((Ok(message), Some(feed))),
                Err(status) => Some((Err(status), None)),
            }
        }))))
    }

    async fn update_task_status(
        &self,
        request: Request<v1::UpdateTaskStatusRequest>,
    ) -> Result<Response<v1::UpdateTaskStatusResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let v1::UpdateTaskStatusRequest { session_id, updates } = request.into_inner();
        let (node, _) = self.session(caller.as_ref(), &session_id)?;
        report::record(&self.store, node, updates).await?;
        Ok(Response::new(v1::UpdateTaskStatusResponse {}))
    }

    async fn update_node(
        &self,
        request: Request<v1::UpdateNodeRequest>,
    ) -> Result<Response<v1::UpdateNodeResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let v1::UpdateNodeRequest { session_id, description } = request.into_inner();
        let (node, _) = self.session(caller.as_ref(), &session_id)?;
        let missing = || Refusal::invalid("the node has no description");
        self.greet(node, NodeDescription::from(description.ok_or_else(missing)?), None).await?;
        Ok(Response::new(v1::UpdateNodeResponse {}))
    }

    async fn work(&self, request: Request<Streaming<v1::WorkOutput>>) -> Result<Response<Self::WorkStream>, Status> {
        let inputs = self.broker.join(request.into_inner()).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(inputs).map(Ok))))
    }
}
