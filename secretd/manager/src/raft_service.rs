//! The Raft service: what other managers ask of this one's part in raft.

use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::raft_server::Raft;
use secretd_store::{Member, MembershipError, RaftServer, ServeError, Store};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::caller::Caller;
use crate::refusal::Refusal;

/// Chunks of a snapshot that wait for the disk.
const CHUNKS: usize = 4;

/// Beside a call of a manager that is none as far as this one knows: it is refused, once it is clear that this one does not
/// know it because its store went back.
#[derive(Debug, Clone)]
pub(crate) struct Unknown(pub(crate) Refusal);

/// The Raft service.
#[derive(Debug, Clone)]
pub(crate) struct RaftService {
    store: Store,
}

impl RaftService {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn server(&self) -> Result<RaftServer, Status> {
        let replica = self.store.replica().ok_or_else(|| Status::unimplemented("this store is not replicated"))?;
        Ok(replica.server())
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn unserved(error: ServeError) -> Status {
    // Raft asks again; the words are for the journal.
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        if let Some(Unknown(refusal)) = request.extensions().get().cloned() {
            let v1::AppendRequest { to, standing, .. } = request.into_inner();
            self.server()?.look(to, standing);
            return Err(refusal.into());
        }
        self.server()?.append(request.into_inner()).await.map(Response::new).map_err(unserved)
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteResponse>, Status> {
        if let Some(Unknown(refusal)) = request.extensions().get().cloned() {
            let v1::VoteRequest { to, standing, .. } = request.into_inner();
            self.server()?.look(to, standing);
            return Err(refusal.into());
        }
        self.server()?.vote(request.into_inner()).await.map(Response::new).map_err(unserved)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotChunk>>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        let server = self.server()?;
        let mut stream = request.into_inner();
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let feed = async {
            while let Some(chunk) = stream.message().await? {
                if sender.send(chunk).await.is_err() {
                    break; // it was refused, which the other side says
                }
            }
            drop(sender);
            Ok::<_, Status>(())
        };
        let (fed, installed) = tokio::join!(feed, server.install_snapshot(chunks));
        fed?;
        installed.map(Response::new).map_err(unserved)
    }

    async fn join_raft(&self, request: Request<v1::JoinRaftRequest>) -> Result<Response<v1::JoinRaftResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let v1::JoinRaftRequest { member, address } = request.into_inner();
        let Some(Caller::Node { id: node, .. }) = caller else {
            return Err(Refusal::new(Code::PermissionDenied, "a node alone can become a manager").into());
        };
        let replica = self.store.replica().ok_or_else(|| Status::unimplemented("this store is not replicated"))?;
        if !self.store.leads() {
            return Err(Refusal::not_leader(replica.leadership().leader.as_ref()).into());
        }
        if !self.store.view().node(&node).is_some_and(|node| node.manager) {
            return Err(Refusal::new(Code::PermissionDenied, format!("node {node} is to be no manager")).into());
        }
        let added = replica.add_member(member, Member { node, address }).await;
        added.map_err(Refusal::from)?;
        Ok(Response::new(v1::JoinRaftResponse {}))
    }
}

impl From<MembershipError> for Refusal {
    fn from(error: MembershipError) -> Self {
        match &error {
            MembershipError::NotLeader(leader) => Self::not_leader(leader.as_ref()),
            MembershipError::Busy | MembershipError::Leads => Self::new(Code::OutOfSequence, error),
            MembershipError::Quorum(_) | MembershipError::Unreached(_) | MembershipError::NoCatchUp(_) => {
                Self::new(Code::NoQuorum, error)
            }
            MembershipError::Stopped(_) => Self::new(Code::Storage, error),
        }
    }
}
