//! A manager and its clients, joined by pipes in memory.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use secretd_ca::{Authority, CertificateDer, Fingerprint, NodeRole, RootDigest};
use secretd_core::node::{Availability, ClusterSpec, NodeDescription};
use secretd_core::seam::clock::Clock;
use secretd_core::time::Timestamp;
use secretd_manager::event::Events;
use secretd_manager::found::{Founder, found};
use secretd_manager::{Caller, Deps, Links, Manager, Shown};
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::id::{ClusterId, NodeId, SecretId};
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1;
use secretd_proto::v1::control_client::ControlClient;
use secretd_proto::v1::control_server::ControlServer;
use secretd_proto::v1::dispatcher_client::DispatcherClient;
use secretd_proto::v1::dispatcher_server::DispatcherServer;
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::key::PublicKey;
use secretd_sealing::payload::{Sealed, seal};
use secretd_sealing::secret::SecretBytes;
use secretd_store::{Member, Store};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Server};

/// A wall clock that goes with tokio's paused time.
#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000_000_000 + i64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }
}

/// There is no other manager.
#[derive(Debug)]
struct NoLinks;

impl Links for NoLinks {
    fn channel(&self, to: &Member) -> Channel {
        panic!("there is no manager {to}");
    }
}

/// A manager that serves.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) events: Events,
    pub(crate) manager: Manager,
    pub(crate) node: NodeId,
    shown: Shown,
    channel: Channel,
    tasks: JoinSet<()>,
}

pub(crate) type Control = ControlClient<Channel>;

impl World {
    /// A manager that founded a cluster.
    pub(crate) async fn founded() -> Self {
        let clock = Arc::new(PausedClock(Instant::now()));
        let store = Store::in_memory(Arc::clone(&clock) as Arc<dyn Clock>).await;
        let cluster = ClusterId::random();
        let authority = Authority::generate(cluster, clock.now()).unwrap();
        let spec = ClusterSpec { heartbeat: Duration::from_secs(5), ..ClusterSpec::default() };
        let founder = Founder {
            node: NodeId::random(),
            address: "127.0.0.1:7377".to_owned(),
            description: NodeDescription { hostname: "here".to_owned(), ..NodeDescription::default() },
            availability: Availability::Active,
        };
        let node = founder.node;
        let world = Self::on(store, clock, node, authority.digest());
        found(&world.store, cluster, &authority, spec, founder).await.unwrap();
        world
    }

    /// Another manager on the same store, as after a restart.
    pub(crate) fn restarted(self) -> Self {
        let Self { store, node, .. } = self;
        let root = store.view().cluster().unwrap().roots[0].clone();
        Self::on(store, Arc::new(PausedClock(Instant::now())), node, RootDigest::of(&CertificateDer::from(root)))
    }

    fn on(store: Store, clock: Arc<dyn Clock>, node: NodeId, issuer: RootDigest) -> Self {
        let events = Events::new();
        let links = Arc::new(NoLinks);
        let deps = Deps { store: store.clone(), links, clock, events: events.clone() };
        let manager = Manager::start(deps);
        let mut tasks = JoinSet::new();
        let shown = Shown {
            fingerprint: Fingerprint::from_bytes([1; 32]),
            issuer,
            not_after: Timestamp(i64::MAX),
            is_ahead: false,
        };
        let this_node = Caller::Node { id: node, role: NodeRole::Manager, shown, expired: false };
        let channel = serve(&manager, this_node, &mut tasks);
        Self { store, events, manager, node, shown, channel, tasks }
    }

    /// Another node of the cluster, as it calls the manager.
    pub(crate) async fn other_node(&mut self) -> DispatcherClient<Channel> {
        let own = self.store.view().node(&self.node).map(|node| secretd_core::node::Node::clone(node)).unwrap();
        let other = secretd_core::node::Node { id: NodeId::random(), manager: false, ..own };
        let caller = Caller::Node { id: other.id, role: NodeRole::Worker, shown: self.shown, expired: false };
        self.store.propose(vec![secretd_store::Op::PutNode { node: other }]).await.unwrap();
        DispatcherClient::new(serve(&self.manager, caller, &mut self.tasks))
    }

    pub(crate) fn control(&self) -> Control {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_LENGTH)
            .max_encoding_message_size(MAX_MESSAGE_LENGTH)
    }

    pub(crate) fn dispatcher(&self) -> DispatcherClient<Channel> {
        DispatcherClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_LENGTH)
            .max_encoding_message_size(MAX_MESSAGE_LENGTH)
    }

    /// Creates a secret as sctl does.
    pub(crate) async fn create_secret(&self, name: &str, value: &[u8]) -> v1::Secret {
        let id = SecretId::random();
        let sealed = self.seal(id, 1, name, value).await;
        let request = v1::CreateSecretRequest {
            id: id.to_string(),
            spec: Some(v1::SecretSpec { name: name.to_owned(), labels: [].into() }),
            length: u32::try_from(value.len()).unwrap(),
            payload: Some(sealed),
        };
        self.control().create_secret(request).await.unwrap().into_inner().secret.unwrap()
    }

    /// The next version of a secret, as sctl makes it.
    pub(crate) async fn update_secret(
        &self,
        secret: &v1::Secret,
        version: u64,
        value: &[u8],
    ) -> Result<v1::Secret, Status> {
        let name = &secret.spec.as_ref().unwrap().name;
        let sealed = self.seal(secret.id.parse().unwrap(), version, name, value).await;
        let request = v1::UpdateSecretRequest {
            id: secret.id.clone(),
            secret_version: version,
            length: u32::try_from(value.len()).unwrap(),
            payload: Some(sealed),
            ..v1::UpdateSecretRequest::default()
        };
        Ok(self.control().update_secret(request).await?.into_inner().secret.unwrap())
    }

    /// What sctl sends instead of `value`.
    pub(crate) async fn seal(&self, id: SecretId, version: u64, name: &str, value: &[u8]) -> v1::SealedPayload {
        let key = self.control().get_sealing_key(v1::GetSealingKeyRequest {}).await.unwrap().into_inner();
        let binding = PayloadBinding {
            cluster: key.cluster_id.parse().unwrap(),
            secret: id,
            version,
            name: name.parse().unwrap(),
            length: u32::try_from(value.len()).unwrap(),
        };
        let cluster = PublicKey::from_bytes(&key.sealing_key).unwrap();
        let Sealed { ciphertext, wrapped_dek } = seal(&SecretBytes::new(value.to_vec()), &binding, &cluster).unwrap();
        v1::SealedPayload { ciphertext, wrapped_dek }
    }

    pub(crate) async fn create_service(&self, spec: v1::ServiceSpec) -> Result<v1::Service, Status> {
        let request = v1::CreateServiceRequest { spec: Some(spec) };
        Ok(self.control().create_service(request).await?.into_inner().service.unwrap())
    }

    /// Changes a service as it is now.
    pub(crate) async fn update_service(&self, name: &str, change: impl FnOnce(&mut v1::ServiceSpec)) -> v1::Service {
        let service = self.service(name).await;
        let mut spec = service.spec.unwrap();
        change(&mut spec);
        let request = v1::UpdateServiceRequest {
            id: service.id,
            version: service.meta.unwrap().version,
            spec: Some(spec),
            rollback: false,
        };
        self.control().update_service(request).await.unwrap().into_inner().service.unwrap()
    }

    pub(crate) async fn service(&self, name: &str) -> v1::Service {
        let request = v1::GetServiceRequest { reference: name.to_owned() };
        self.control().get_service(request).await.unwrap().into_inner().service.unwrap()
    }

    /// Waits until the service and its tasks are as `wanted` says, and returns the tasks.
    pub(crate) async fn until(
        &self,
        name: &str,
        wanted: impl Fn(&v1::Service, &[v1::Task]) -> bool,
    ) -> (v1::Service, Vec<v1::Task>) {
        let id = self.service(name).await.id;
        let mut stream = self.control().watch_service(v1::WatchServiceRequest { id }).await.unwrap().into_inner();
        let watching = async {
            let mut last = None;
            while let Some(v1::WatchServiceResponse { service: Some(service), tasks, .. }) =
                stream.message().await.unwrap()
            {
                if wanted(&service, &tasks) {
                    return (service, tasks);
                }
                last = Some((service, tasks));
            }
            panic!("the service went: {last:#?}");
        };
        within(watching).await
    }

    /// Waits until the service has `n` running tasks and no others that are wanted.
    pub(crate) async fn until_running(&self, name: &str, n: usize) -> Vec<v1::Task> {
        let (_, tasks) =
            self.until(name, |_, tasks| live(tasks).len() == n && live(tasks).iter().all(is_running)).await;
        live(&tasks)
    }
}

fn serve(manager: &Manager, this_node: Caller, tasks: &mut JoinSet<()>) -> Channel {
    let (tx, rx) = mpsc::unbounded_channel::<std::io::Result<DuplexStream>>();
    // One pipe for both: who calls is known by the service that is called.
    let control = manager.door().for_caller(Caller::Local { uid: 0, pid: None });
    let router = Server::builder()
        .add_service(control.named::<ControlServer<()>>())
        .add_service(manager.door().for_caller(this_node).named::<DispatcherServer<()>>());
    tasks.spawn(async move {
        router.serve_with_incoming(UnboundedReceiverStream::new(rx)).await.unwrap();
    });
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let (client, server) = tokio::io::duplex(1 << 20);
        let sent = tx.send(Ok(server)).map_err(std::io::Error::other);
        async move { sent.map(|()| TokioIo::new(client)) }
    });
    Endpoint::from_static("http://manager").connect_with_connector_lazy(connector)
}

/// What `future` gives, unless a virtual hour passes first.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), future).await.expect("this never happens")
}

pub(crate) fn is_running(task: &v1::Task) -> bool {
    state(task) == v1::TaskState::Running
}

pub(crate) fn state(task: &v1::Task) -> v1::TaskState {
    task.status.as_ref().unwrap().state()
}

/// The tasks that are wanted.
pub(crate) fn live(tasks: &[v1::Task]) -> Vec<v1::Task> {
    tasks.iter().filter(|task| task.desired_state() <= v1::TaskState::Running).cloned().collect()
}

/// A service of `image`.
pub(crate) fn spec(name: &str, replicas: u64, image: &str) -> v1::ServiceSpec {
    v1::ServiceSpec {
        name: name.to_owned(),
        task: Some(v1::TaskSpec {
            container: Some(v1::ContainerSpec { image: image.to_owned(), ..v1::ContainerSpec::default() }),
            restart: Some(v1::RestartPolicy::default()),
            resources: Some(v1::Resources::default()),
            ..v1::TaskSpec::default()
        }),
        mode: Some(v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas })),
        ..v1::ServiceSpec::default()
    }
}

pub(crate) fn container(spec: &mut v1::ServiceSpec) -> &mut v1::ContainerSpec {
    spec.task.as_mut().unwrap().container.as_mut().unwrap()
}

pub(crate) fn grant(secret: &v1::Secret, target: &str) -> v1::SecretGrant {
    v1::SecretGrant {
        secret_id: secret.id.clone(),
        secret_name: secret.spec.as_ref().unwrap().name.clone(),
        target: target.to_owned(),
        uid: 0,
        gid: 0,
        mode: 0o444,
        pinned_version: 0,
    }
}

pub(crate) fn replicas(spec: &mut v1::ServiceSpec, replicas: u64) {
    spec.mode = Some(v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas }));
}

/// A refusal as callers see it: its code and its line.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("it was not refused");
    let code = status.metadata().get(METADATA_KEY).and_then(|code| code.to_str().ok()).and_then(Code::parse);
    (code.expect("it has no code"), status.message().to_owned())
}
