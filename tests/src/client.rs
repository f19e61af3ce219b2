//! The API without `sctl`: one connection, for measurements that must not include a process start.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::id::{ClusterId, SecretId};
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1::control_client::ControlClient;
use secretd_proto::v1::{CreateSecretRequest, GetSealingKeyRequest, SealedPayload, SecretSpec, UpdateSecretRequest};
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::key::PublicKey;
use secretd_sealing::payload;
use secretd_sealing::secret::SecretBytes;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// How long a secret may take to be there. Far more than it needs: a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between attempts.
const RETRY: Duration = Duration::from_millis(25);

/// A channel to a node's control socket.
pub async fn channel(socket: &Path) -> Result<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://secretd").connect_with_connector(connector).await?)
}

/// A connection to a node's control socket, with what sealing needs.
#[derive(Debug, Clone)]
pub struct Client {
    /// The API.
    pub control: ControlClient<Channel>,
    cluster: ClusterId,
    sealing_key: PublicKey,
}

impl Client {
    /// Connects to `socket` of a node that is part of a cluster.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let mut control = ControlClient::new(channel(socket).await?)
            .max_decoding_message_size(MAX_MESSAGE_LENGTH)
            .max_encoding_message_size(MAX_MESSAGE_LENGTH);
        let key = control.get_sealing_key(GetSealingKeyRequest {}).await?.into_inner();
        Ok(Self { control, cluster: key.cluster_id.parse()?, sealing_key: PublicKey::from_bytes(&key.sealing_key)? })
    }

    /// Seals and creates a secret, as `sctl secret create` does: its id.
    pub async fn create_secret(&mut self, name: &str, value: &[u8]) -> Result<SecretId> {
        let id = SecretId::random();
        self.create_secret_as(id, name, value).await?;
        Ok(id)
    }

    /// The same, with an id that the caller has drawn: it is known whatever becomes of the call.
    pub async fn create_secret_as(&mut self, id: SecretId, name: &str, value: &[u8]) -> Result<()> {
        let (length, payload) = self.seal(id, 1, name, value)?;
        let spec = Some(SecretSpec { name: name.to_owned(), ..SecretSpec::default() });
        let request = CreateSecretRequest { id: id.to_string(), spec, length, payload: Some(payload) };
        self.control.create_secret(request).await?;
        Ok(())
    }

    /// Creates a secret as soon as a majority takes it: one that was made by an attempt whose answer was lost is there too.
    pub async fn until_created(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let (id, end) = (SecretId::random(), Instant::now() + PATIENCE);
        let mut is_repeated = false;
        while let Err(error) = self.create_secret_as(id, name, value).await {
            match error.downcast_ref::<Status>().and_then(code) {
                Some(Code::NameConflict) if is_repeated => return Ok(()),
                Some(Code::NoQuorum | Code::NotLeader) if Instant::now() < end => is_repeated = true,
                _ => return Err(error.context(format!("{name} is not created"))),
            }
            sleep(RETRY).await;
        }
        Ok(())
    }

    /// Seals and stores a new version.
    pub async fn update_secret(&mut self, id: SecretId, version: u64, name: &str, value: &[u8]) -> Result<()> {
        let (length, payload) = self.seal(id, version, name, value)?;
        let request = UpdateSecretRequest {
            id: id.to_string(),
            secret_version: version,
            length,
            payload: Some(payload),
            ..UpdateSecretRequest::default()
        };
        self.control.update_secret(request).await?;
        Ok(())
    }

    fn seal(&self, secret: SecretId, version: u64, name: &str, value: &[u8]) -> Result<(u32, SealedPayload)> {
        let length = u32::try_from(value.len()).context("length")?;
        let binding = PayloadBinding { cluster: self.cluster, secret, version, name: name.parse()?, length };
        let sealed = payload::seal(&SecretBytes::new(value.to_vec()), &binding, &self.sealing_key)?;
        Ok((length, SealedPayload { ciphertext: sealed.ciphertext, wrapped_dek: sealed.wrapped_dek }))
    }
}

/// The code of a refusal.
fn code(status: &Status) -> Option<Code> {
    Code::parse(status.metadata().get(METADATA_KEY)?.to_str().ok()?)
}
