//! Named volumes: directories of the data directory that outlive the containers that use them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::id::TaskId;

use crate::shim_config::{MountSource, ShimConfig};

/// A volume that a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumePlan {
    /// Its place in the configuration's mounts.
    pub(super) mount: usize,
    /// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`
    pub(super) name: String,
    /// Whether the image's files are left out of a new volume.
    pub(super) nocopy: bool,
    /// Labels of a volume that is made.
    pub(super) labels: BTreeMap<String, String>,
}

/// The name of an anonymous volume: it goes with its task.
pub(super) fn anonymous(task: &TaskId, index: usize) -> String {
    format!("{task}.{index}")
}

/// Makes the volumes that are not there yet, and puts their paths into the configuration.
pub(super) fn make(volumes: &Utf8Path, config: &mut ShimConfig, plans: &[VolumePlan]) -> io::Result<()> {
    for plan in plans {
        let directory = volumes.join(&plan.name);
        let data = directory.join("_data");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        // Of two containers that start at the same time one makes it.
        let is_new = match std::fs::DirBuilder::new().mode(0o755).create(&data) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        if is_new {
            let meta = serde_json::json!({"labels": plan.labels});
            std::fs::write(directory.join("meta.json"), meta.to_string())?;
        }
        if let Some(mount) = config.mounts.get_mut(plan.mount) {
            let populate = is_new && !plan.nocopy;
            mount.source = MountSource::Path { path: data, propagation: String::new(), populate };
        }
    }
    Ok(())
}

/// Removes the anonymous volumes of a task.
pub(super) fn remove_anonymous(volumes: &Utf8Path, task: &TaskId) -> io::Result<()> {
    let entries = match volumes.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let prefix = format!("{task}.");
    let mine: Vec<Utf8PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().starts_with(&prefix))
        .map(|entry| entry.into_path())
        .collect();
    mine.iter().try_for_each(|path| super::clean::tree(path))
}
