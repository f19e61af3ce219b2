//! Named volumes: directories of the data directory that outlive the containers that use them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::id::TaskId;
use serde::{Deserialize, Serialize};

use crate::shim_config::{MountSource, ShimConfig};

/// What containers see of a volume's directory.
pub(super) const DATA: &str = "_data";
/// What is known of it.
pub(super) const META: &str = "meta.json";

/// The file beside a volume's data.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) labels: BTreeMap<String, String>,
}

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
        let is_new = make_one(volumes, &plan.name, &plan.labels)?;
        if let Some(mount) = config.mounts.get_mut(plan.mount) {
            let path = volumes.join(&plan.name).join(DATA);
            let populate = is_new && !plan.nocopy;
            mount.source = MountSource::Path { path, propagation: String::new(), populate };
        }
    }
    Ok(())
}

/// Makes a volume that is not there yet. Answers whether it was made: of two who want it at the same time, one makes it.
pub(super) fn make_one(volumes: &Utf8Path, name: &str, labels: &BTreeMap<String, String>) -> io::Result<bool> {
    let directory = volumes.join(name);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    match std::fs::DirBuilder::new().mode(0o755).create(directory.join(DATA)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    let meta = serde_json::to_vec(&Meta { labels: labels.clone() }).map_err(io::Error::other)?;
    std::fs::write(directory.join(META), meta)?;
    Ok(true)
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
