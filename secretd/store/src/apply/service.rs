//! Operations on services.

use std::sync::Arc;

use secretd_core::service::{Service, ServiceSpec, UpdateStatus};
use secretd_core::time::Version;
use secretd_proto::id::ServiceId;

use super::Transaction;
use crate::conflict::{Conflict, ObjectKind};
use crate::event::Event;
use crate::state::{Record, RecordKey};

impl Transaction {
    pub(super) fn create_service(&mut self, id: ServiceId, spec: &ServiceSpec) -> Result<(), Conflict> {
        if self.state.service_names.contains_key(&spec.name) {
            return Err(Conflict::NameTaken { kind: ObjectKind::Service, name: spec.name.to_string() });
        }
        if self.state.services.contains_key(&id) {
            return Err(Conflict::IdTaken { kind: ObjectKind::Service, id: id.to_string() });
        }
        self.check_grants(&spec.task)?;
        let service = Arc::new(Service {
            id,
            meta: self.meta_created(),
            spec: spec.clone(),
            previous_spec: None,
            update_status: None,
            spec_version: self.version,
        });
        self.put(Record::Service(Arc::clone(&service)));
        self.events.push(Event::ServiceCreated(service));
        Ok(())
    }

    pub(super) fn update_service(
        &mut self,
        id: ServiceId,
        expect: Version,
        spec: &ServiceSpec,
        previous_spec: Option<&ServiceSpec>,
        update_status: Option<&UpdateStatus>,
    ) -> Result<(), Conflict> {
        let old = self.service(id)?;
        if old.meta.version != expect {
            return Err(Conflict::OutOfSequence { id, expected: expect, actual: old.meta.version });
        }
        if old.spec.name != spec.name {
            return Err(Conflict::NameChanged { name: old.spec.name.clone() });
        }
        self.check_grants(&spec.task)?;
        let spec_version = if old.spec.task == spec.task { old.spec_version } else { self.version };
        let new = Service {
            id,
            meta: old.meta,
            spec: spec.clone(),
            previous_spec: previous_spec.cloned(),
            update_status: update_status.cloned(),
            spec_version,
        };
        self.replace_service(&old, new);
        self.release_grants(&old.spec.task);
        Ok(())
    }

    pub(super) fn set_update_status(&mut self, id: ServiceId, status: Option<&UpdateStatus>) -> Result<(), Conflict> {
        let old = self.service(id)?;
        let new = Service { update_status: status.cloned(), ..Service::clone(&old) };
        self.replace_service(&old, new);
        Ok(())
    }

    pub(super) fn remove_service(&mut self, id: ServiceId) -> Result<(), Conflict> {
        let service = self.service(id)?;
        self.remove(RecordKey::Service(id));
        self.release_grants(&service.spec.task);
        self.events.push(Event::ServiceRemoved(service));
        Ok(())
    }

    fn replace_service(&mut self, old: &Arc<Service>, mut new: Service) {
        if new == **old {
            return;
        }
        new.meta = self.meta_updated(old.meta);
        let new = Arc::new(new);
        self.put(Record::Service(Arc::clone(&new)));
        self.events.push(Event::ServiceUpdated { old: Arc::clone(old), new });
    }

    fn service(&self, id: ServiceId) -> Result<Arc<Service>, Conflict> {
        let found = self.state.services.get(&id).cloned();
        found.ok_or_else(|| Conflict::NotFound { kind: ObjectKind::Service, id: id.to_string() })
    }
}
