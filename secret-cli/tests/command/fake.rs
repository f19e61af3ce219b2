//! A control server in this process. It remembers what it was asked, and refuses what a test did not prepare.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use parking_lot::Mutex;
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::id::ClusterId;
use secretd_proto::v1::control_server::Control;
use secretd_proto::v1::exec_output::Output;
use secretd_proto::v1::local_server::Local;
use secretd_proto::v1::*;
use secretd_sealing::key::PrivateKey;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

/// What was asked of the server.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Names of calls, in their order.
    pub(crate) calls: Vec<&'static str>,
    pub(crate) created: Option<CreateSecretRequest>,
    pub(crate) updated: Option<UpdateSecretRequest>,
    pub(crate) service: Option<ServiceSpec>,
    pub(crate) exec: Option<ExecStart>,
}

/// The server. `taken` is a name that exists, `old` a secret that others update, `app` a service that uses `used`.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    asked: Arc<Mutex<Asked>>,
    key: Arc<PrivateKey>,
    cluster: ClusterId,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

impl Fake {
    pub(crate) fn new(asked: Arc<Mutex<Asked>>) -> Self {
        Self { asked, key: Arc::new(PrivateKey::generate().unwrap()), cluster: ClusterId::random() }
    }

    fn note(&self, call: &'static str) {
        self.asked.lock().calls.push(call);
    }
}

pub(crate) fn refusal(code: Code, message: &str) -> Status {
    let mut status = Status::failed_precondition(message);
    status.metadata_mut().insert(METADATA_KEY, MetadataValue::from_static(code.as_str()));
    status
}

fn secret(name: &str) -> Secret {
    Secret {
        id: "0000000000000000000000abc".to_owned(),
        spec: Some(SecretSpec { name: name.to_owned(), ..SecretSpec::default() }),
        secret_version: 3,
        length: 2,
        ..Secret::default()
    }
}

fn service(spec: Option<ServiceSpec>) -> Service {
    Service { id: "000000000000000000000svc1".to_owned(), spec, spec_version: 1, ..Service::default() }
}

/// Methods without an answer, as `async_trait` would write them: it does not look into macros.
macro_rules! refuse {
    ($($call:ident: $request:ty => $response:ty;)*) => { $(
        fn $call<'a, 'b>(&'a self, _: Request<$request>) -> Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            self.note(stringify!($call));
            Box::pin(async { Err(refusal(Code::Internal, concat!("no answer is prepared for ", stringify!($call)))) })
        }
    )* };
}

#[tonic::async_trait]
impl Control for Fake {
    type BackupStream = Messages<BackupPart>;
    type WatchServiceStream = Messages<WatchServiceResponse>;
    type ServiceLogsStream = Messages<LogRecord>;
    type ExecStream = Messages<ExecOutput>;
    type WatchEventsStream = Messages<Event>;
    type WatchAuthorityStream = Messages<GetAuthorityResponse>;

    async fn get_sealing_key(&self, _: Request<GetSealingKeyRequest>) -> Answer<GetSealingKeyResponse> {
        self.note("get_sealing_key");
        let sealing_key = self.key.public().to_bytes().to_vec();
        Ok(Response::new(GetSealingKeyResponse { cluster_id: self.cluster.to_string(), sealing_key }))
    }

    async fn create_secret(&self, request: Request<CreateSecretRequest>) -> Answer<CreateSecretResponse> {
        self.note("create_secret");
        let request = request.into_inner();
        if request.spec.as_ref().is_some_and(|spec| spec.name == "taken") {
            return Err(refusal(Code::NameConflict, "secret taken already exists"));
        }
        self.asked.lock().created = Some(request);
        Ok(Response::new(CreateSecretResponse { secret: Some(secret("new")) }))
    }

    async fn update_secret(&self, request: Request<UpdateSecretRequest>) -> Answer<UpdateSecretResponse> {
        self.note("update_secret");
        self.asked.lock().updated = Some(request.into_inner());
        Err(refusal(Code::OutOfSequence, "update out of sequence"))
    }

    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        self.note("get_secret");
        match request.into_inner().reference.as_str() {
            name @ ("old" | "used") => {
                Ok(Response::new(GetSecretResponse { secret: Some(secret(name)), used_by: vec![] }))
            }
            name => Err(refusal(Code::NotFound, &format!("secret {name} not found"))),
        }
    }

    async fn list_secrets(&self, _: Request<ListSecretsRequest>) -> Answer<ListSecretsResponse> {
        self.note("list_secrets");
        Ok(Response::new(ListSecretsResponse { secrets: vec![secret("used"), secret("old")] }))
    }

    async fn remove_secret(&self, request: Request<RemoveSecretRequest>) -> Answer<RemoveSecretResponse> {
        self.note("remove_secret");
        match request.into_inner().reference.as_str() {
            "used" => Err(refusal(Code::InUse, "secret 'used' is in use by the following service: app")),
            "old" => Ok(Response::new(RemoveSecretResponse { id: secret("old").id })),
            name => Err(refusal(Code::NotFound, &format!("secret {name} not found"))),
        }
    }

    async fn create_service(&self, request: Request<CreateServiceRequest>) -> Answer<CreateServiceResponse> {
        self.note("create_service");
        let spec = request.into_inner().spec;
        self.asked.lock().service.clone_from(&spec);
        Ok(Response::new(CreateServiceResponse { service: Some(service(spec)), warnings: vec![] }))
    }

    async fn watch_service(&self, _: Request<WatchServiceRequest>) -> Answer<Self::WatchServiceStream> {
        self.note("watch_service");
        let spec = self.asked.lock().service.clone();
        let task = Task {
            slot: 1,
            spec_version: 1,
            service_name: "app".to_owned(),
            desired_state: TaskState::Running.into(),
            status: Some(TaskStatus { state: TaskState::Running.into(), ..TaskStatus::default() }),
            ..Task::default()
        };
        let states = [vec![], vec![task]]
            .map(|tasks| Ok(WatchServiceResponse { service: Some(service(spec.clone())), tasks, desired: 1 }));
        Ok(Response::new(Box::pin(futures::stream::iter(states))))
    }

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Answer<Self::ExecStream> {
        self.note("exec");
        let first = request.into_inner().message().await?;
        if let Some(exec_input::Input::Start(start)) = first.and_then(|first| first.input) {
            self.asked.lock().exec = Some(start);
        }
        let outputs = [Output::Stdout(b"out\n".to_vec()), Output::Stderr(b"err\n".to_vec()), Output::ExitCode(7)];
        let outputs = outputs.map(|output| Ok(ExecOutput { output: Some(output) }));
        Ok(Response::new(Box::pin(futures::stream::iter(outputs))))
    }

    refuse! {
        get_cluster: GetClusterRequest => GetClusterResponse;
        backup: BackupRequest => Self::BackupStream;
        update_cluster: UpdateClusterRequest => UpdateClusterResponse;
        get_join_token: GetJoinTokenRequest => GetJoinTokenResponse;
        get_unlock_key: GetUnlockKeyRequest => GetUnlockKeyResponse;
        issue_operator: IssueOperatorRequest => IssueOperatorResponse;
        list_operators: ListOperatorsRequest => ListOperatorsResponse;
        remove_operator: RemoveOperatorRequest => RemoveOperatorResponse;
        get_authority: GetAuthorityRequest => GetAuthorityResponse;
        watch_authority: WatchAuthorityRequest => Self::WatchAuthorityStream;
        rotate_authority: RotateAuthorityRequest => RotateAuthorityResponse;
        update_node: UpdateClusterNodeRequest => UpdateClusterNodeResponse;
        remove_node: RemoveNodeRequest => RemoveNodeResponse;
        update_service: UpdateServiceRequest => UpdateServiceResponse;
        get_service: GetServiceRequest => GetServiceResponse;
        list_services: ListServicesRequest => ListServicesResponse;
        remove_service: RemoveServiceRequest => RemoveServiceResponse;
        service_logs: ServiceLogsRequest => Self::ServiceLogsStream;
        get_task: GetTaskRequest => GetTaskResponse;
        list_tasks: ListTasksRequest => ListTasksResponse;
        get_node: GetNodeRequest => GetNodeResponse;
        list_nodes: ListNodesRequest => ListNodesResponse;
        watch_events: WatchEventsRequest => Self::WatchEventsStream;
    }
}

#[tonic::async_trait]
impl Local for Fake {
    refuse! {
        get_info: GetInfoRequest => GetInfoResponse;
        init_cluster: InitClusterRequest => InitClusterResponse;
        join_cluster: JoinClusterRequest => JoinClusterResponse;
        restore_cluster: Streaming<RestoreInput> => RestoreClusterResponse;
        leave_cluster: LeaveClusterRequest => LeaveClusterResponse;
        unlock: UnlockRequest => UnlockResponse;
        rekey: RekeyRequest => RekeyResponse;
    }
}
