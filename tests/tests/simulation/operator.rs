//! An operator: makes services and secrets through the real API of one manager or another, as sctl does.
//!
//! What comes of a call that was broken off is not known; it does not matter, because what the cluster must become is
//! read from its own state in the end.

use secretd_proto::id::SecretId;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1;
use secretd_proto::v1::control_client::ControlClient;
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::key::PublicKey;
use secretd_sealing::payload::{Sealed, seal};
use secretd_sealing::secret::SecretBytes;
use tonic::Status;
use tonic::transport::Channel;

use crate::node::{Node, Outcome, Progress};
use crate::rng::Rng;
use crate::wire::Wires;

/// The number of an operator's machine, which is no node.
pub(crate) const OUTSIDE: usize = 0;
/// It does something so often at most, in milliseconds.
const PAUSE: (u64, u64) = (100, 700);
const SERVICES: u64 = 3;
const SECRETS: u64 = 3;

/// The operator.
#[derive(Debug)]
pub(crate) struct Operator {
    rng: Rng,
    rests_until: u64,
    asked: Option<Outcome<Result<(), Status>>>,
}

/// One thing that it does.
#[derive(Debug, Clone)]
enum Deed {
    CreateSecret(String),
    RotateSecret(String),
    CreateService { name: String, replicas: u64, secret: String },
    Scale { name: String, replicas: u64 },
    Revoke(String),
    RemoveService(String),
}

/// The value of a version of a secret: everybody who makes that version gives it the same.
pub(crate) fn value(name: &str, version: u64) -> Vec<u8> {
    format!("the value of {name}, version {version}").into_bytes()
}

impl Operator {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, rests_until: 0, asked: None }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Hears what was answered, and does the next thing as long as it is `busy`. What it did, for the trace.
    pub(crate) fn step(&mut self, now: u64, managers: &[Node], wires: &Wires, busy: bool) -> Option<String> {
        if let Some(asked) = &self.asked {
            let told = match asked.take() {
                Progress::Running => return None,
                Progress::Done(Ok(())) => "done".to_owned(),
                Progress::Done(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
                Progress::Lost => "nothing was heard of it".to_owned(),
            };
            self.asked = None;
            self.rests_until = now + self.rng.between(PAUSE.0, PAUSE.1);
            return Some(told);
        }
        if !busy || now < self.rests_until {
            return None;
        }
        let node = managers.get(self.rng.below(managers.len())).filter(|node| node.store().is_some())?;
        let deed = self.draw();
        let told = format!("{deed:?} through node {}", node.index);
        let (wires, to) = (wires.clone(), node.index);
        let outcome = node.run(async move { perform(wires.channel(OUTSIDE, to, std::convert::identity), deed).await });
        self.asked = Some(outcome);
        Some(told)
    }

    fn draw(&mut self) -> Deed {
        let secret = format!("pw{}", self.rng.between(1, SECRETS));
        let name = format!("app{}", self.rng.between(1, SERVICES));
        match self.rng.below(100) {
            0..20 => Deed::CreateSecret(secret),
            20..45 => Deed::RotateSecret(secret),
            45..75 => Deed::CreateService { name, replicas: self.rng.between(1, 3), secret },
            75..87 => Deed::Scale { name, replicas: self.rng.between(0, 4) },
            87..94 => Deed::Revoke(name),
            _ => Deed::RemoveService(name),
        }
    }
}

async fn perform(channel: Channel, deed: Deed) -> Result<(), Status> {
    let mut control = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE_LENGTH);
    match deed {
        Deed::CreateSecret(name) => {
            let id = SecretId::random();
            let (length, payload) = sealed(&mut control, id, 1, &name).await?;
            let spec = Some(v1::SecretSpec { name, labels: [].into() });
            control.create_secret(v1::CreateSecretRequest { id: id.to_string(), spec, length, payload }).await?;
        }
        Deed::RotateSecret(name) => {
            let secret = secret(&mut control, &name).await?;
            let id = secret.id.parse().map_err(|_| Status::internal("no id"))?;
            let version = secret.secret_version + 1;
            let (length, payload) = sealed(&mut control, id, version, &name).await?;
            let request = v1::UpdateSecretRequest {
                id: secret.id,
                secret_version: version,
                length,
                payload,
                ..v1::UpdateSecretRequest::default()
            };
            control.update_secret(request).await?;
        }
        Deed::CreateService { name, replicas, secret: granted } => {
            let granted = secret(&mut control, &granted).await?;
            let spec = Some(service(name, replicas, &granted));
            control.create_service(v1::CreateServiceRequest { spec }).await?;
        }
        Deed::Scale { name, replicas } => {
            change(&mut control, &name, |spec| {
                spec.mode = Some(v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas }));
            })
            .await?;
        }
        Deed::Revoke(name) => {
            let revoke = |spec: &mut v1::ServiceSpec| {
                if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
                    container.secrets.clear();
                }
            };
            change(&mut control, &name, revoke).await?;
        }
        Deed::RemoveService(name) => {
            control.remove_service(v1::RemoveServiceRequest { reference: name }).await?;
        }
    }
    Ok(())
}

async fn secret(control: &mut ControlClient<Channel>, name: &str) -> Result<v1::Secret, Status> {
    let found = control.get_secret(v1::GetSecretRequest { reference: name.to_owned() }).await?;
    found.into_inner().secret.ok_or_else(|| Status::internal("no secret"))
}

async fn sealed(
    control: &mut ControlClient<Channel>,
    secret: SecretId,
    version: u64,
    name: &str,
) -> Result<(u32, Option<v1::SealedPayload>), Status> {
    let key = control.get_sealing_key(v1::GetSealingKeyRequest {}).await?.into_inner();
    let value = value(name, version);
    let length = u32::try_from(value.len()).unwrap();
    let (cluster, name) = (key.cluster_id.parse().unwrap(), name.parse().unwrap());
    let binding = PayloadBinding { cluster, secret, version, name, length };
    let cluster = PublicKey::from_bytes(&key.sealing_key).unwrap();
    let Sealed { ciphertext, wrapped_dek } = seal(&SecretBytes::new(value), &binding, &cluster).unwrap();
    Ok((length, Some(v1::SealedPayload { ciphertext, wrapped_dek })))
}

async fn change(
    control: &mut ControlClient<Channel>,
    name: &str,
    change: impl FnOnce(&mut v1::ServiceSpec),
) -> Result<(), Status> {
    let found = control.get_service(v1::GetServiceRequest { reference: name.to_owned() }).await?;
    let service = found.into_inner().service.ok_or_else(|| Status::internal("no service"))?;
    let mut spec = service.spec.unwrap_or_default();
    change(&mut spec);
    let version = service.meta.map_or(0, |meta| meta.version);
    let request = v1::UpdateServiceRequest { id: service.id, version, spec: Some(spec), rollback: false };
    control.update_service(request).await?;
    Ok(())
}

fn service(name: String, replicas: u64, secret: &v1::Secret) -> v1::ServiceSpec {
    let grant = v1::SecretGrant {
        secret_id: secret.id.clone(),
        secret_name: secret.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default(),
        target: "password".to_owned(),
        mode: 0o444,
        ..v1::SecretGrant::default()
    };
    let container =
        v1::ContainerSpec { image: "app:1".to_owned(), secrets: vec![grant], ..v1::ContainerSpec::default() };
    let task = v1::TaskSpec {
        container: Some(container),
        restart: Some(v1::RestartPolicy::default()),
        resources: Some(v1::Resources::default()),
        ..v1::TaskSpec::default()
    };
    v1::ServiceSpec {
        name,
        task: Some(task),
        mode: Some(v1::service_spec::Mode::Replicated(v1::ReplicatedMode { replicas })),
        ..v1::ServiceSpec::default()
    }
}
