//! Secrets and their sealed payloads.

use std::collections::BTreeMap;

use secretd_proto::v1;

use super::{WireError, parse, required};
use crate::secret::{SealedPayload, Secret, SecretSpec, SecretVersion};

impl From<SecretSpec> for v1::SecretSpec {
    fn from(spec: SecretSpec) -> Self {
        Self { name: spec.name.into(), labels: spec.labels.into_iter().collect() }
    }
}

impl TryFrom<v1::SecretSpec> for SecretSpec {
    type Error = WireError;
    fn try_from(spec: v1::SecretSpec) -> Result<Self, WireError> {
        Ok(Self { name: parse("name", &spec.name)?, labels: BTreeMap::from_iter(spec.labels) })
    }
}

impl From<Secret> for v1::Secret {
    fn from(secret: Secret) -> Self {
        Self {
            id: secret.id.to_string(),
            meta: Some(secret.meta.into()),
            spec: Some(secret.spec.into()),
            secret_version: secret.version.0,
            length: secret.length,
        }
    }
}

impl TryFrom<v1::Secret> for Secret {
    type Error = WireError;
    fn try_from(secret: v1::Secret) -> Result<Self, WireError> {
        Ok(Self {
            id: parse("id", &secret.id)?,
            meta: required("meta", secret.meta)?.into(),
            spec: required("spec", secret.spec)?.try_into()?,
            version: SecretVersion(secret.secret_version),
            length: secret.length,
        })
    }
}

impl From<SealedPayload> for v1::SealedPayload {
    fn from(payload: SealedPayload) -> Self {
        Self { ciphertext: payload.ciphertext, wrapped_dek: payload.wrapped_dek }
    }
}

impl From<v1::SealedPayload> for SealedPayload {
    fn from(payload: v1::SealedPayload) -> Self {
        Self { ciphertext: payload.ciphertext, wrapped_dek: payload.wrapped_dek }
    }
}
