//! The Local service: what operators ask of this node, whether or not it is part of a cluster.

use std::time::Duration;

use secretd_core::node::NodeDescription;
use secretd_manager::refusal::Refusal;
use secretd_manager::{Caller, audit};
use secretd_proto::v1;
use secretd_proto::v1::local_server::{Local, LocalServer};
use secretd_proto::v1::restore_input::Input;
use secretd_sealing::kek::KekStatus;
use secretd_sealing::secret::KeyBytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::{Request, Response};

use super::lifecycle::{Command, Reply};
use super::refusals;
use super::restoring::Restoring;
use super::status::{Phase, Status, is_newest};

/// How long a node that joins is waited for; it goes on after that.
const JOINED: Duration = Duration::from_secs(20);
/// Pieces of a backup that wait for the disk.
const PIECES: usize = 4;

/// What a node is whatever it is part of.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) description: watch::Receiver<NodeDescription>,
    pub(crate) data_dir: String,
    pub(crate) run_dir: String,
    pub(crate) warnings: Vec<String>,
}

/// The Local service.
#[derive(Debug, Clone)]
pub(crate) struct LocalService {
    facts: Facts,
    status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
}

impl LocalService {
    pub(crate) fn server(
        facts: Facts,
        status: watch::Receiver<Status>,
        commands: mpsc::Sender<Command>,
    ) -> LocalServer<Self> {
        LocalServer::new(Self { facts, status, commands })
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let stopping = || refusals::failed(&anyhow::anyhow!("secretd is stopping: repeat when it runs again"));
        self.commands.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    fn subject(&self) -> String {
        self.status.borrow().membership.as_ref().map(|membership| membership.node.to_string()).unwrap_or_default()
    }
}

#[tonic::async_trait]
impl Local for LocalService {
    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Result<Response<v1::GetInfoResponse>, tonic::Status> {
        let manager = self.status.borrow().manager.clone();
        let stale = match manager {
            Some((store, control)) => !is_newest(&store, &control).await,
            None => false,
        };
        let mut info = self.status.borrow().to_info();
        info.stale = stale;
        info.warnings.splice(0..0, self.facts.warnings.iter().cloned());
        let description = self.facts.description.borrow().clone();
        Ok(Response::new(v1::GetInfoResponse {
            server_version: self.facts.version.clone(),
            node: Some(description.into()),
            data_dir: self.facts.data_dir.clone(),
            run_dir: self.facts.run_dir.clone(),
            ..info
        }))
    }

    async fn init_cluster(
        &self,
        request: Request<v1::InitClusterRequest>,
    ) -> Result<Response<v1::InitClusterResponse>, tonic::Status> {
        let caller = Caller::of(request.extensions());
        let outcome = self.ask(|reply| Command::Init(request.into_inner(), reply)).await;
        let founded = audit::record(caller, "cluster.init", self.subject(), outcome)?;
        Ok(Response::new(founded))
    }

    async fn join_cluster(
        &self,
        request: Request<v1::JoinClusterRequest>,
    ) -> Result<Response<v1::JoinClusterResponse>, tonic::Status> {
        let caller = Caller::of(request.extensions());
        let outcome = self.ask(|reply| Command::Join(request.into_inner(), reply)).await;
        let membership = audit::record(caller, "cluster.join", self.subject(), outcome)?;
        let mut status = self.status.clone();
        let active = timeout(JOINED, status.wait_for(|status| status.phase == Phase::Active)).await;
        Ok(Response::new(v1::JoinClusterResponse {
            cluster_id: membership.cluster.to_string(),
            node_id: membership.node.to_string(),
            manager: membership.manager,
            pending: !matches!(active, Ok(Ok(_))),
        }))
    }

    async fn restore_cluster(
        &self,
        request: Request<tonic::Streaming<v1::RestoreInput>>,
    ) -> Result<Response<v1::RestoreClusterResponse>, tonic::Status> {
        let caller = Caller::of(request.extensions());
        let mut input = request.into_inner();
        let Some(v1::RestoreInput { input: Some(Input::Begin(begin)) }) = input.message().await? else {
            return Err(refusals::invalid("the first message says what the backup is opened with").into());
        };
        let (sender, file) = mpsc::channel(PIECES);
        let upload = async move {
            while let Ok(Some(message)) = input.message().await {
                if let Some(Input::Data(data)) = message.input
                    && sender.send(data).await.is_err()
                {
                    break; // it was refused
                }
            }
        };
        let restore = self.ask(|reply| Command::Restore(Restoring { begin, file }, reply));
        tokio::pin!(restore);
        let outcome = tokio::select! {
            outcome = &mut restore => outcome,
            () = upload => restore.await, // what was cut off is not whole
        };
        let restored = audit::record(caller, "cluster.restore", self.subject(), outcome)?;
        Ok(Response::new(restored))
    }

    async fn leave_cluster(
        &self,
        request: Request<v1::LeaveClusterRequest>,
    ) -> Result<Response<v1::LeaveClusterResponse>, tonic::Status> {
        let caller = Caller::of(request.extensions());
        let node = self.subject();
        let outcome = self.ask(|reply| Command::Leave(request.into_inner(), reply)).await;
        let warning = audit::record(caller, "cluster.leave", node, outcome)?;
        Ok(Response::new(v1::LeaveClusterResponse { warning }))
    }

    async fn unlock(&self, request: Request<v1::UnlockRequest>) -> Result<Response<v1::UnlockResponse>, tonic::Status> {
        let caller = Caller::of(request.extensions());
        let key = KeyBytes::new(request.into_inner().key);
        let outcome = self.ask(|reply| Command::Unlock(key, reply)).await;
        audit::record(caller, "cluster.unlock", self.subject(), outcome)?;
        Ok(Response::new(v1::UnlockResponse {}))
    }

    async fn rekey(&self, request: Request<v1::RekeyRequest>) -> Result<Response<v1::RekeyResponse>, tonic::Status> {
        let caller = Caller::of(request.extensions());
        let outcome = self.ask(|reply| Command::Rekey(request.into_inner(), reply)).await;
        let KekStatus { source, secure, reason } = audit::record(caller, "node.rekey", self.subject(), outcome)?;
        Ok(Response::new(v1::RekeyResponse { source: source.to_owned(), secure, reason: reason.to_owned() }))
    }
}
