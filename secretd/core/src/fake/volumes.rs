//! Volumes that are names in a list, of which some are in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use secretd_proto::id::TaskId;

use crate::seam::volumes::{Volume, VolumeError, Volumes, is_volume_name};
use crate::time::Timestamp;

/// Volumes in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct FakeVolumes(Arc<Mutex<BTreeMap<String, Volume>>>);

impl FakeVolumes {
    /// From now on a container uses the volume.
    pub fn use_by(&self, name: &str, task: TaskId) {
        if let Some(volume) = self.0.lock().get_mut(name) {
            volume.used_by.push(task);
        }
    }
}

#[async_trait]
impl Volumes for FakeVolumes {
    async fn create(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Volume, VolumeError> {
        if !is_volume_name(name) {
            return Err(VolumeError::Name(name.to_owned()));
        }
        let mut volumes = self.0.lock();
        let volume = volumes.entry(name.to_owned()).or_insert_with(|| Volume {
            name: name.to_owned(),
            labels,
            mountpoint: format!("/volumes/{name}"),
            created_at: Timestamp(0),
            used_by: Vec::new(),
        });
        Ok(volume.clone())
    }

    async fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        Ok(self.0.lock().values().cloned().collect())
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let mut volumes = self.0.lock();
        let volume = volumes.get(name).ok_or_else(|| VolumeError::NotFound(name.to_owned()))?;
        if let Some(task) = volume.used_by.first() {
            return Err(VolumeError::InUse { volume: name.to_owned(), task: *task });
        }
        volumes.remove(name);
        Ok(())
    }
}
