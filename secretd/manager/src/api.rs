//! The Control service: what sctl speaks to. Thin: each group of calls has a file that resolves references, asks the pure
//! rules, and proposes.
//!
//! Who may make which call is settled before, at the door.

mod authority;
mod backup;
mod cluster;
mod events;
mod exec;
mod join_token;
mod logs;
mod nodes;
mod operator;
mod secrets;
mod services;
mod tasks;
pub(crate) mod unlock_key;

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use secretd_core::seam::clock::Clock;
use secretd_core::time::Timestamp;
use secretd_proto::v1;
use secretd_proto::v1::control_server::Control;
use secretd_store::{Store, View};
use tonic::{Request, Response, Status, Streaming};

use crate::caller::Caller;
use crate::dispatch::broker::Broker;
use crate::dispatch::session::Sessions;
use crate::event::Events;
use crate::refusal::Refusal;

/// What the calls need.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) broker: Broker,
    pub(crate) sessions: Sessions,
}

impl Context {
    /// The state of the cluster.
    ///
    /// # Errors
    /// When there is no cluster yet.
    fn view(&self) -> Result<View, Refusal> {
        let view = self.store.view();
        if view.cluster().is_some() { Ok(view) } else { Err(Refusal::not_initialized()) }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The Control service.
#[derive(Debug, Clone)]
pub(crate) struct ControlService {
    context: Context,
}

impl ControlService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

/// Messages of a streaming call.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T>(outcome: Result<T, Refusal>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(Status::from)
}

/// The request's message, and who sent it.
fn open<T>(request: Request<T>) -> (Option<Caller>, T) {
    (Caller::of(request.extensions()), request.into_inner())
}

#[tonic::async_trait]
impl Control for ControlService {
    type BackupStream = Messages<v1::BackupPart>;
    type WatchServiceStream = Messages<v1::WatchServiceResponse>;
    type ServiceLogsStream = Messages<v1::LogRecord>;
    type ExecStream = Messages<v1::ExecOutput>;
    type WatchEventsStream = Messages<v1::Event>;
    type WatchAuthorityStream = Messages<v1::GetAuthorityResponse>;

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        answer(cluster::get_cluster(&self.context, request.into_inner()))
    }

    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Result<Response<v1::UpdateClusterResponse>, Status> {
        let (caller, request) = open(request);
        answer(cluster::update_cluster(&self.context, caller, request).await)
    }

    async fn get_join_token(
        &self,
        request: Request<v1::GetJoinTokenRequest>,
    ) -> Result<Response<v1::GetJoinTokenResponse>, Status> {
        let (caller, request) = open(request);
        answer(join_token::get(&self.context, caller, request).await)
    }

    async fn get_unlock_key(
        &self,
        request: Request<v1::GetUnlockKeyRequest>,
    ) -> Result<Response<v1::GetUnlockKeyResponse>, Status> {
        let (caller, request) = open(request);
        answer(unlock_key::get(&self.context, caller, request).await)
    }

    async fn issue_operator(
        &self,
        request: Request<v1::IssueOperatorRequest>,
    ) -> Result<Response<v1::IssueOperatorResponse>, Status> {
        let (caller, request) = open(request);
        answer(operator::issue(&self.context, caller, &request).await)
    }

    async fn list_operators(
        &self,
        _: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        answer(operator::list(&self.context))
    }

    async fn remove_operator(
        &self,
        request: Request<v1::RemoveOperatorRequest>,
    ) -> Result<Response<v1::RemoveOperatorResponse>, Status> {
        let (caller, request) = open(request);
        answer(operator::remove(&self.context, caller, &request).await)
    }

    async fn get_authority(
        &self,
        _: Request<v1::GetAuthorityRequest>,
    ) -> Result<Response<v1::GetAuthorityResponse>, Status> {
        answer(authority::get(&self.context))
    }

    async fn watch_authority(
        &self,
        _: Request<v1::WatchAuthorityRequest>,
    ) -> Result<Response<Self::WatchAuthorityStream>, Status> {
        answer(authority::watch(&self.context))
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Result<Response<v1::RotateAuthorityResponse>, Status> {
        let (caller, request) = open(request);
        answer(authority::rotate(&self.context, caller, request).await)
    }

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let (caller, request) = open(request);
        answer(backup::take(&self.context, caller, request).await)
    }

    async fn get_sealing_key(
        &self,
        request: Request<v1::GetSealingKeyRequest>,
    ) -> Result<Response<v1::GetSealingKeyResponse>, Status> {
        answer(cluster::sealing_key(&self.context, request.into_inner()))
    }

    async fn create_secret(
        &self,
        request: Request<v1::CreateSecretRequest>,
    ) -> Result<Response<v1::CreateSecretResponse>, Status> {
        let (peer, request) = open(request);
        answer(secrets::create_secret(&self.context, peer, request).await)
    }

    async fn update_secret(
        &self,
        request: Request<v1::UpdateSecretRequest>,
    ) -> Result<Response<v1::UpdateSecretResponse>, Status> {
        let (peer, request) = open(request);
        answer(secrets::update_secret(&self.context, peer, request).await)
    }

    async fn get_secret(
        &self,
        request: Request<v1::GetSecretRequest>,
    ) -> Result<Response<v1::GetSecretResponse>, Status> {
        answer(secrets::get_secret(&self.context, &request.into_inner()))
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        answer(secrets::list_secrets(&self.context, request.into_inner()))
    }

    async fn remove_secret(
        &self,
        request: Request<v1::RemoveSecretRequest>,
    ) -> Result<Response<v1::RemoveSecretResponse>, Status> {
        let (peer, request) = open(request);
        answer(secrets::remove_secret(&self.context, peer, request).await)
    }

    async fn create_service(
        &self,
        request: Request<v1::CreateServiceRequest>,
    ) -> Result<Response<v1::CreateServiceResponse>, Status> {
        let (peer, request) = open(request);
        answer(services::create_service(&self.context, peer, request).await)
    }

    async fn update_service(
        &self,
        request: Request<v1::UpdateServiceRequest>,
    ) -> Result<Response<v1::UpdateServiceResponse>, Status> {
        let (peer, request) = open(request);
        answer(services::update_service(&self.context, peer, request).await)
    }

    async fn get_service(
        &self,
        request: Request<v1::GetServiceRequest>,
    ) -> Result<Response<v1::GetServiceResponse>, Status> {
        answer(services::get_service(&self.context, &request.into_inner()))
    }

    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        answer(services::list_services(&self.context, request.into_inner()))
    }

    async fn remove_service(
        &self,
        request: Request<v1::RemoveServiceRequest>,
    ) -> Result<Response<v1::RemoveServiceResponse>, Status> {
        let (peer, request) = open(request);
        answer(services::remove_service(&self.context, peer, request).await)
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Result<Response<v1::GetTaskResponse>, Status> {
        answer(tasks::get_task(&self.context, &request.into_inner()))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        answer(tasks::list_tasks(&self.context, request.into_inner()))
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::GetNodeResponse>, Status> {
        answer(nodes::get_node(&self.context, &request.into_inner()))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        answer(nodes::list_nodes(&self.context, request.into_inner()))
    }

    async fn update_node(
        &self,
        request: Request<v1::UpdateClusterNodeRequest>,
    ) -> Result<Response<v1::UpdateClusterNodeResponse>, Status> {
        let (caller, request) = open(request);
        answer(nodes::update_node(&self.context, caller, request).await)
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let (caller, request) = open(request);
        answer(nodes::remove_node(&self.context, caller, request).await)
    }

    async fn watch_service(
        &self,
        request: Request<v1::WatchServiceRequest>,
    ) -> Result<Response<Self::WatchServiceStream>, Status> {
        answer(services::watch_service(&self.context, &request.into_inner()))
    }

    async fn service_logs(
        &self,
        request: Request<v1::ServiceLogsRequest>,
    ) -> Result<Response<Self::ServiceLogsStream>, Status> {
        answer(logs::follow(&self.context, request.into_inner()).await)
    }

    async fn exec(&self, request: Request<Streaming<v1::ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        let (peer, input) = open(request);
        exec::start(&self.context, peer, input).await.map(Response::new)
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        answer(events::watch(&self.context, request.into_inner()))
    }
}
