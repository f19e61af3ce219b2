//! The node's volumes as its users see them: the [`Volumes`] seam.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use camino::Utf8Path;
use secretd_core::seam::volumes::{Volume, VolumeError, Volumes, is_volume_name};
use secretd_core::time::Timestamp;
use secretd_proto::id::TaskId;

use super::volume::{self, DATA, META, Meta};
use super::{ContainerRuntime, clean};
use crate::shim_config::{MountSource, ShimConfig};

/// Begins the name of a volume that is being removed.
const REMOVED: &str = ".removed-";

#[async_trait]
impl Volumes for ContainerRuntime {
    async fn create(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Volume, VolumeError> {
        if !is_volume_name(name) {
            return Err(VolumeError::Name(name.to_owned()));
        }
        let directory = self.volumes_dir();
        volume::make_one(&directory, name, &labels).map_err(|error| node("volume", &error))?;
        let made = self.volume(name).map_err(|error| node("volume", &error))?;
        made.ok_or_else(|| VolumeError::NotFound(name.to_owned())) // removed meanwhile
    }

    async fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let failed = |error: io::Error| node("volumes", &error);
        let names = match self.volumes_dir().read_dir_utf8() {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_owned())).collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let mut volumes = Vec::new();
        for name in names.map_err(failed)?.iter().filter(|name| is_volume_name(name)) {
            volumes.extend(self.volume(name).map_err(failed)?);
        }
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(volumes)
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let not_found = || VolumeError::NotFound(name.to_owned());
        if !is_volume_name(name) {
            return Err(not_found());
        }
        let volume = self.volume(name).map_err(|error| node("volume", &error))?.ok_or_else(not_found)?;
        if let Some(task) = volume.used_by.first() {
            return Err(VolumeError::InUse { volume: name.to_owned(), task: *task });
        }
        let directory = self.volumes_dir();
        // No volume has such a name. A container that starts just now gets a new one, or is refused and tried again.
        match std::fs::rename(directory.join(name), directory.join(format!("{REMOVED}{}", TaskId::random()))) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_found()),
            Err(error) => return Err(node("remove volume", &error)),
        }
        let cleaned = tokio::task::spawn_blocking(move || remove_renamed(&directory)).await;
        cleaned.map_err(io::Error::other).and_then(|cleaned| cleaned).map_err(|error| node("remove volume", &error))
    }
}

impl ContainerRuntime {
    /// A volume, if it is there.
    fn volume(&self, name: &str) -> io::Result<Option<Volume>> {
        let directory = self.volumes_dir().join(name);
        let data = directory.join(DATA);
        let made = match std::fs::metadata(&data) {
            Ok(metadata) => metadata.created().or_else(|_| metadata.modified())?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let made = made.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Made a moment ago, or by a start that was cut short: one without labels.
        let meta = std::fs::read(directory.join(META)).unwrap_or_default();
        let Meta { labels } = serde_json::from_slice(&meta).unwrap_or_default();
        Ok(Some(Volume {
            name: name.to_owned(),
            labels,
            created_at: Timestamp(i64::try_from(made.as_nanos()).unwrap_or(i64::MAX)),
            used_by: self.users(&data)?,
            mountpoint: data.into_string(),
        }))
    }

    /// The tasks whose containers mount a directory.
    fn users(&self, directory: &Utf8Path) -> io::Result<Vec<TaskId>> {
        let mut users = Vec::new();
        for entry in self.config.run_dir.join("tasks").read_dir_utf8()? {
            let Ok(task) = entry?.file_name().parse::<TaskId>() else { continue };
            let Ok(config) = ShimConfig::load(&self.task_dir(&task)) else { continue }; // it is being made or removed
            let mounts = |source: &MountSource| matches!(source, MountSource::Path { path, .. } if path == directory);
            users.extend(config.mounts.iter().any(|mount| mounts(&mount.source)).then_some(task));
        }
        Ok(users)
    }
}

/// Takes away what was removed, now or by a removal that was cut short.
fn remove_renamed(volumes: &Utf8Path) -> io::Result<()> {
    for entry in volumes.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_name().starts_with(REMOVED) {
            clean::tree(entry.path())?;
        }
    }
    Ok(())
}

fn node(step: &str, error: &io::Error) -> VolumeError {
    VolumeError::Node { step: step.to_owned(), reason: error.to_string() }
}
