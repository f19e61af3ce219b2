//! Operations on secrets, and which payloads are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use secretd_core::secret::{Secret, SecretSpec, SecretVersion};
use secretd_core::service::{SecretGrant, TaskSpec};
use secretd_proto::id::SecretId;

use super::Transaction;
use crate::conflict::{Conflict, ObjectKind};
use crate::event::Event;
use crate::kept::{KeptPayload, KeptPayloads};
use crate::op::Payload;
use crate::state::{Record, RecordKey, SecretRecord};
use crate::view::View;

impl Transaction {
    pub(super) fn create_secret(
        &mut self,
        id: SecretId,
        spec: &SecretSpec,
        length: u32,
        payload: &Payload,
    ) -> Result<(), Conflict> {
        if self.state.secret_names.contains_key(&spec.name) {
            return Err(Conflict::NameTaken { kind: ObjectKind::Secret, name: spec.name.to_string() });
        }
        if self.state.secrets.contains_key(&id) {
            return Err(Conflict::IdTaken { kind: ObjectKind::Secret, id: id.to_string() });
        }
        let version = SecretVersion(1);
        let secret = Arc::new(Secret { id, meta: self.meta_created(), spec: spec.clone(), version, length });
        let kept = KeptPayload { at: self.payload_ref(payload), length };
        let payloads = KeptPayloads::from_iter([(version, kept)]);
        self.put(Record::Secret(Arc::new(SecretRecord { secret: Arc::clone(&secret), payloads })));
        self.events.push(Event::SecretCreated(secret));
        Ok(())
    }

    pub(super) fn update_secret(
        &mut self,
        id: SecretId,
        expect: SecretVersion,
        labels: Option<&BTreeMap<String, String>>,
        payload: Option<&(u32, Payload)>,
    ) -> Result<(), Conflict> {
        let record = self.secret_record(id)?;
        let old = Arc::clone(&record.secret);
        if old.version != expect {
            return Err(Conflict::SecretOutOfSequence { id, expected: expect, actual: old.version });
        }
        let mut new = Secret { meta: self.meta_updated(old.meta), ..Secret::clone(&old) };
        let mut payloads = record.payloads.clone();
        if let Some(labels) = labels {
            new.spec.labels.clone_from(labels);
        }
        if let Some((length, payload)) = payload {
            new.version = SecretVersion(old.version.0 + 1);
            new.length = *length;
            payloads = payloads.with(new.version, KeptPayload { at: self.payload_ref(payload), length: *length });
        }
        if new.version == old.version && new.spec == old.spec {
            return Ok(());
        }
        let new = Arc::new(new);
        self.put(Record::Secret(Arc::new(SecretRecord { secret: Arc::clone(&new), payloads })));
        self.drop_unused_payloads(id);
        self.events.push(Event::SecretUpdated { old, new });
        Ok(())
    }

    pub(super) fn remove_secret(&mut self, id: SecretId) -> Result<(), Conflict> {
        let secret = Arc::clone(&self.secret_record(id)?.secret);
        let services = View::new(self.state.clone()).services_using(&id);
        if !services.is_empty() {
            return Err(Conflict::SecretInUse { name: secret.spec.name.clone(), services });
        }
        self.remove(RecordKey::Secret(id));
        self.events.push(Event::SecretRemoved(secret));
        Ok(())
    }

    /// Whether every secret that `spec` grants is there, in the version that it pins.
    pub(super) fn check_grants(&self, spec: &TaskSpec) -> Result<(), Conflict> {
        for SecretGrant { secret, name, pinned, .. } in &spec.container.secrets {
            let Some(record) = self.state.secrets.get(secret) else {
                return Err(Conflict::GrantedSecretMissing { secret: *secret, name: name.clone() });
            };
            if let Some(version) = pinned.filter(|version| record.payloads.get(*version).is_none()) {
                return Err(Conflict::PinnedVersionMissing { name: name.clone(), version });
            }
        }
        Ok(())
    }

    /// Drops the payloads of the secrets that `spec` granted which nothing refers to any more.
    pub(super) fn release_grants(&mut self, spec: &TaskSpec) {
        for grant in spec.container.secrets.iter().filter(|grant| grant.pinned.is_some()) {
            self.drop_unused_payloads(grant.secret);
        }
    }

    /// Keeps the current version and those that a service or a task pins.
    fn drop_unused_payloads(&mut self, id: SecretId) {
        let Some(record) = self.state.secrets.get(&id).cloned() else { return };
        let current = record.secret.version;
        let is_used = |version| version == current || self.is_pinned(id, version);
        let kept: KeptPayloads = record.payloads.iter().filter(|(version, _)| is_used(*version)).collect();
        if kept != record.payloads {
            self.put(Record::Secret(Arc::new(SecretRecord { secret: Arc::clone(&record.secret), payloads: kept })));
        }
    }

    fn is_pinned(&self, secret: SecretId, version: SecretVersion) -> bool {
        let pins = |spec: &TaskSpec| {
            spec.container.secrets.iter().any(|grant| grant.secret == secret && grant.pinned == Some(version))
        };
        let services = self.state.services_using.get(&secret).into_iter().flat_map(|ids| ids.iter());
        let tasks = self.state.tasks_using.get(&secret).into_iter().flat_map(|ids| ids.iter());
        services.filter_map(|id| self.state.services.get(id)).any(|service| pins(&service.spec.task))
            || tasks.filter_map(|id| self.state.tasks.get(id)).any(|task| pins(&task.spec))
    }

    fn secret_record(&self, id: SecretId) -> Result<&Arc<SecretRecord>, Conflict> {
        self.state.secrets.get(&id).ok_or_else(|| Conflict::NotFound { kind: ObjectKind::Secret, id: id.to_string() })
    }
}
