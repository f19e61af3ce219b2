//! The API without `sctl`: one connection, for measurements that must not include a process start.

use std::path::Path;

use anyhow::{Context, Result};
use secretd_proto::id::{ClusterId, SecretId};
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1::control_client::ControlClient;
use secretd_proto::v1::{CreateSecretRequest, GetSealingKeyRequest, SealedPayload, SecretSpec, UpdateSecretRequest};
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::key::PublicKey;
use secretd_sealing::payload;
use secretd_sealing::secret::SecretBytes;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

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
