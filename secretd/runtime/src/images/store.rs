//! The image store: the seam's implementation, and what the runtime asks of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::Mutex;
use secretd_core::seam::clock::Clock;
use secretd_core::seam::images::{ByteStream, Credentials, Image, ImageError, Images, Progress};
use secretd_proto::id::TaskId;
use tokio::sync::mpsc;

use super::config::{ContainerDefaults, ImageConfig, platform};
use super::index::{Index, Layer, Record, write_whole};
use super::layer::{self, Unpacked};
use super::reference::Reference;

/// How the store works.
#[derive(Debug, Clone)]
pub struct Config {
    /// `images/` of the data directory.
    pub directory: Utf8PathBuf,
    /// Bytes that one layer may unpack to.
    pub max_unpacked: u64,
    /// PEM files of further certificate authorities for registries.
    pub extra_ca: Vec<Utf8PathBuf>,
    /// `HOST:PORT` of registries that are spoken to without TLS.
    pub insecure_registries: Vec<String>,
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// What the image says of its containers.
    pub defaults: ContainerDefaults,
    /// Unpacked layers, lowest first.
    pub layers: Vec<Utf8PathBuf>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory or the index is not usable.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: Utf8PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// An image on its way in: all of it is there, and nothing is in its place.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) id: String,
    pub(super) config: Vec<u8>,
    /// Layers that were unpacked for it; others are there already.
    pub(super) layers: Vec<Unpacked>,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
}

/// Images of this node. Clones share the store.
#[derive(Debug, Clone)]
pub struct ImageStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    clock: Arc<dyn Clock>,
    /// Held for moments: the files that it stands for are small.
    index: Mutex<Index>,
    /// Which tasks use an image.
    pins: Mutex<BTreeMap<String, BTreeSet<TaskId>>>,
}

impl ImageStore {
    /// Opens the store, and removes what an interrupted run has left.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let at = |path: Utf8PathBuf| move |source| OpenError::Io { path, source };
        let tmp = config.directory.join("tmp");
        match std::fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(tmp)(error)),
            _ => {}
        }
        for name in ["tmp", "configs", "layers"] {
            let path = config.directory.join(name);
            std::fs::create_dir_all(&path).map_err(at(path))?;
        }
        let path = config.directory.join("index.json");
        let index = Index::load(&path).map_err(at(path))?;
        let store = Self(Arc::new(Shared { config, clock, index: Mutex::new(index), pins: Mutex::default() }));
        store.remove_unused_layers();
        Ok(store)
    }

    /// What a container of this image is made from.
    ///
    /// # Errors
    /// When there is none of that name here, or its configuration is damaged.
    pub fn resolve(&self, reference: &str) -> Result<ResolvedImage, ImageError> {
        let record = self.0.index.lock().find(reference)?.clone();
        let text = self.config_text(&record.id)?;
        let config: ImageConfig = serde_json::from_str(&text).map_err(|_| damaged(&record.id))?;
        let layers = self.0.config.directory.join("layers");
        let layers = record.layers.iter().map(|one| layer::path(&layers, &one.diff_id)).collect();
        Ok(ResolvedImage { id: record.id, defaults: config.config, layers })
    }

    /// Keeps the image as long as the task is there.
    pub fn pin(&self, image: &str, task: TaskId) {
        self.0.pins.lock().entry(image.to_owned()).or_default().insert(task);
    }

    /// The task is gone.
    pub fn unpin(&self, task: &TaskId) {
        self.0.pins.lock().retain(|_, tasks| {
            tasks.remove(task);
            !tasks.is_empty()
        });
    }

    pub(super) fn tmp(&self) -> Utf8PathBuf {
        self.0.config.directory.join("tmp")
    }

    pub(super) fn max_unpacked(&self) -> u64 {
        self.0.config.max_unpacked
    }

    pub(super) fn extra_ca(&self) -> &[Utf8PathBuf] {
        &self.0.config.extra_ca
    }

    pub(super) fn insecure_registries(&self) -> &[String] {
        &self.0.config.insecure_registries
    }

    /// Whether a layer is here already, for some image.
    pub(super) fn has_layer(&self, diff_id: &str) -> bool {
        self.0.index.lock().layer(diff_id).is_some()
    }

    pub(super) fn now(&self) -> i64 {
        self.0.clock.now().0
    }

    fn layers(&self) -> Utf8PathBuf {
        self.0.config.directory.join("layers")
    }

    fn config_path(&self, id: &str) -> Utf8PathBuf {
        self.0.config.directory.join("configs").join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    fn config_text(&self, id: &str) -> Result<String, ImageError> {
        let text = std::fs::read_to_string(self.config_path(id)).map_err(|_| damaged(id))?;
        if super::stream::digest(text.as_bytes()) == id { Ok(text) } else { Err(damaged(id)) }
    }

    /// Puts an image into its place: layers, then configuration, then the index, which makes it be there.
    pub(super) async fn add(&self, incoming: Incoming) -> Result<Image, ImageError> {
        let store = self.clone();
        let added = tokio::task::spawn_blocking(move || store.add_blocking(incoming)).await;
        added.map_err(|_| ImageError::Node { step: "image".to_owned(), reason: "it was interrupted".to_owned() })?
    }

    fn add_blocking(&self, incoming: Incoming) -> Result<Image, ImageError> {
        let text = String::from_utf8(incoming.config)
            .map_err(|_| ImageError::BadArchive("the image's configuration is no text".to_owned()))?;
        let config: ImageConfig = serde_json::from_str(&text)
            .map_err(|error| ImageError::BadArchive(format!("the image's configuration cannot be read: {error}")))?;
        let (os, architecture) = platform();
        if (config.os.as_str(), config.architecture.as_str()) != (os, architecture) {
            let image = incoming.tags.first().cloned().unwrap_or(incoming.id);
            let have = format!("{}/{}", config.os, config.architecture);
            return Err(ImageError::Platform { image, have, want: format!("{os}/{architecture}") });
        }
        // The index is locked throughout: no removal may take a layer between its coming and its being named.
        let mut index = self.0.index.lock();
        let layers = config.rootfs.diff_ids.iter().map(|diff_id| known_layer(&index, &incoming.layers, diff_id));
        let layers = layers.collect::<Result<_, _>>()?;
        incoming.layers.into_iter().try_for_each(|layer| layer.place(&self.layers()))?;
        let config_path = self.config_path(&incoming.id);
        write_whole(&config_path, text.as_bytes()).map_err(|error| layer::node(&config_path, &error))?;
        let created = config.created.as_deref().and_then(crate::timestamp::parse).unwrap_or_else(|| self.now());
        let record = Record {
            id: incoming.id.clone(),
            tags: incoming.tags,
            digests: incoming.digests,
            created_unix_nanos: created,
            os: config.os,
            architecture: config.architecture,
            layers,
        };
        let mut next = index.clone();
        next.add(record);
        self.save(&next)?;
        *index = next;
        Ok(index.find(&incoming.id)?.to_image(text))
    }

    fn save(&self, index: &Index) -> Result<(), ImageError> {
        let path = self.0.config.directory.join("index.json");
        index.save(&path).map_err(|error| layer::node(&path, &error))
    }

    fn remove_unused_layers(&self) {
        let index = self.0.index.lock();
        let Ok(entries) = self.layers().read_dir_utf8() else { return };
        for entry in entries.flatten() {
            if index.layer(&format!("sha256:{}", entry.file_name())).is_none() {
                remove_tree(entry.path());
            }
        }
    }

    fn remove_blocking(&self, reference: &str, force: bool) -> Result<(Vec<String>, Vec<String>), ImageError> {
        let mut index = self.0.index.lock();
        let record = index.find(reference)?.clone();
        let tag = reference.parse::<Reference>().map(|name| name.familiar()).unwrap_or_default();
        let by_tag = record.tags.contains(&tag);
        if !by_tag && record.tags.len() > 1 && !force {
            return Err(ImageError::Invalid(format!(
                "image {reference} has several tags: remove each by its name, or use --force"
            )));
        }
        let untagged: Vec<String> = if by_tag { vec![tag] } else { record.tags.clone() };
        let last = record.tags.len() <= untagged.len();
        let user = self.0.pins.lock().get(&record.id).and_then(|tasks| tasks.first().copied());
        if let (true, Some(task)) = (last, user) {
            if force && by_tag {
                let mut next = index.clone();
                next.images.iter_mut().filter(|one| one.id == record.id).for_each(|one| one.tags.clear());
                self.save(&next)?;
                *index = next;
                return Ok((untagged, Vec::new()));
            }
            return Err(ImageError::InUse { image: reference.to_owned(), task: task.to_string() });
        }
        let mut next = index.clone();
        if last {
            next.images.retain(|one| one.id != record.id);
        } else {
            next.images.iter_mut().for_each(|one| one.tags.retain(|tag| !untagged.contains(tag)));
        }
        self.save(&next)?;
        *index = next;
        let mut deleted = Vec::new();
        if last {
            let _ = std::fs::remove_file(self.config_path(&record.id)); // the index has forgotten it
            deleted.push(record.id);
            for Layer { diff_id, .. } in record.layers.into_iter().filter(|one| index.layer(&one.diff_id).is_none()) {
                remove_tree(&layer::path(&self.layers(), &diff_id));
                deleted.push(diff_id);
            }
        }
        Ok((untagged, deleted))
    }
}

/// What the index is to say of a layer that has come, or was there.
fn known_layer(index: &Index, incoming: &[Unpacked], diff_id: &str) -> Result<Layer, ImageError> {
    let come = incoming.iter().find(|layer| layer.diff_id == diff_id);
    let come = come.map(|layer| Layer { diff_id: layer.diff_id.clone(), size: layer.size });
    come.or_else(|| index.layer(diff_id).cloned()).ok_or_else(|| ImageError::Node {
        step: "image".to_owned(),
        reason: format!("layer {diff_id} was removed meanwhile: do it again"),
    })
}

fn damaged(id: &str) -> ImageError {
    ImageError::BadArchive(format!("image {id} is damaged on this node: remove it with --force and get it again"))
}

/// What stays of it is removed at the next start.
fn remove_tree(path: &Utf8Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%path, %error, "a layer could not be removed");
    }
}

#[async_trait]
impl Images for ImageStore {
    async fn import(
        &self,
        tag: &str,
        changes: &[String],
        message: &str,
        data: ByteStream,
    ) -> Result<Image, ImageError> {
        self.import_archive(tag, changes, message, data).await
    }

    async fn load(&self, data: ByteStream, progress: mpsc::Sender<Progress>) -> Result<Vec<Image>, ImageError> {
        self.load_archive(data, progress).await
    }

    async fn pull(
        &self,
        reference: &str,
        plain_http: bool,
        credentials: Credentials,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Image, ImageError> {
        self.pull_image(reference, plain_http, credentials, &progress).await
    }

    async fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut records = self.0.index.lock().images.clone();
        records.sort_by_key(|record| std::cmp::Reverse(record.created_unix_nanos));
        records.iter().map(|record| Ok(record.to_image(self.config_text(&record.id)?))).collect()
    }

    async fn get(&self, reference: &str) -> Result<Image, ImageError> {
        let record = self.0.index.lock().find(reference)?.clone();
        Ok(record.to_image(self.config_text(&record.id)?))
    }

    async fn tag(&self, reference: &str, tag: &str) -> Result<(), ImageError> {
        let tag: Reference = tag
            .parse()
            .map_err(|error: super::reference::ParseReferenceError| ImageError::Invalid(error.to_string()))?;
        let mut index = self.0.index.lock();
        let mut record = index.find(reference)?.clone();
        record.tags = vec![tag.familiar()];
        let mut next = index.clone();
        next.add(record);
        self.save(&next)?;
        *index = next;
        Ok(())
    }

    async fn remove(&self, reference: &str, force: bool) -> Result<(Vec<String>, Vec<String>), ImageError> {
        let (store, reference) = (self.clone(), reference.to_owned());
        let removed = tokio::task::spawn_blocking(move || store.remove_blocking(&reference, force)).await;
        removed.map_err(|_| ImageError::Node { step: "image".to_owned(), reason: "it was interrupted".to_owned() })?
    }
}
