//! Images out of one archive: an OCI image layout, or what `docker save` writes.

use secretd_core::seam::images::{ByteStream, Image, ImageError, Progress};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::archive::Spooled;
use super::config::{ImageConfig, platform};
use super::layer::{self, Unpacked};
use super::reference::{Reference, is_digest};
use super::store::{ImageStore, Incoming};
use super::stream::{self, StreamReader};

/// Indexes within indexes: no tool writes more than one.
const MAX_DEPTH: usize = 4;

/// One image of an archive, found and not yet read.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    config: String,
    layers: Vec<String>,
    tags: Vec<String>,
}

/// `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The parts of the OCI image specification that a layout needs.
#[derive(Debug, Deserialize)]
pub(super) struct Descriptor {
    pub(super) digest: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// An index or a manifest: which one tell the fields.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

impl ImageStore {
    pub(super) async fn load_archive(
        &self,
        data: ByteStream,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Vec<Image>, ImageError> {
        let (reader, feed) = StreamReader::new(data);
        let store = self.clone();
        let reading = tokio::task::spawn_blocking(move || store.read_archive(reader, &progress));
        let (read, ()) = tokio::join!(reading, feed);
        let incoming =
            read.map_err(|_| ImageError::Node { step: "load".to_owned(), reason: "it was interrupted".to_owned() })??;
        let mut images = Vec::new();
        for one in incoming {
            let tags = one.tags.clone();
            images.push(Image { tags, ..self.add(one).await? }); // the names that came, not those that it had
        }
        Ok(images)
    }

    fn read_archive(
        &self,
        reader: StreamReader,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Vec<Incoming>, ImageError> {
        let archive = Spooled::read(reader, &self.tmp(), self.max_unpacked())?;
        let found = if archive.has("manifest.json") {
            saved(&archive)?
        } else if archive.has("index.json") {
            layout(&archive)?
        } else {
            return Err(ImageError::BadArchive(
                "the archive has neither manifest.json nor index.json: is it an OCI layout or a docker-save archive?"
                    .to_owned(),
            ));
        };
        found.into_iter().map(|image| self.read_image(&archive, image, progress)).collect()
    }

    fn read_image(
        &self,
        archive: &Spooled,
        found: Found,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Incoming, ImageError> {
        let config = archive.document(&found.config)?;
        let id = stream::digest(&config);
        let parsed: ImageConfig = serde_json::from_slice(&config)
            .map_err(|error| ImageError::BadArchive(format!("the image's configuration cannot be read: {error}")))?;
        check_platform(found.tags.first().unwrap_or(&id), &parsed)?;
        if parsed.rootfs.diff_ids.len() != found.layers.len() {
            let (named, there) = (parsed.rootfs.diff_ids.len(), found.layers.len());
            return Err(ImageError::BadArchive(format!(
                "the image's configuration names {named} layers, and there are {there}"
            )));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in found.layers.iter().zip(&parsed.rootfs.diff_ids) {
            let tell = |status: &str| {
                let (current, total) = (archive.length(name), archive.length(name));
                let _ =
                    progress.blocking_send(Progress { id: short(diff_id), status: status.to_owned(), current, total });
            };
            if self.has_layer(diff_id) {
                tell("Already exists");
                continue;
            }
            tell("Extracting");
            let unpacked = layer::read(archive.reader(name)?, &self.tmp(), self.max_unpacked())?;
            layers.push(verified(unpacked, diff_id)?);
            tell("Pull complete");
        }
        Ok(Incoming { id, config, layers, tags: found.tags, digests: Vec::new() })
    }
}

/// Twelve digits, as people see them.
pub(super) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

/// A layer whose bytes are those that the configuration names.
pub(super) fn verified(unpacked: Unpacked, diff_id: &str) -> Result<Unpacked, ImageError> {
    if unpacked.diff_id == diff_id {
        return Ok(unpacked);
    }
    Err(ImageError::Digest { what: "a layer".to_owned(), have: unpacked.diff_id.clone(), want: diff_id.to_owned() })
}

/// Before anything is unpacked: an image for another platform is refused.
pub(super) fn check_platform(image: &str, config: &ImageConfig) -> Result<(), ImageError> {
    let (os, architecture) = platform();
    if (config.os.as_str(), config.architecture.as_str()) == (os, architecture) {
        return Ok(());
    }
    let have = format!("{}/{}", config.os, config.architecture);
    Err(ImageError::Platform { image: image.to_owned(), have, want: format!("{os}/{architecture}") })
}

fn saved(archive: &Spooled) -> Result<Vec<Found>, ImageError> {
    let images: Vec<SavedImage> = archive.json("manifest.json")?;
    let found = images.into_iter().map(|image| {
        let tags = image.repo_tags.unwrap_or_default().iter().map(|tag| familiar(tag)).collect::<Result<_, _>>()?;
        // Newer archives name blobs by their digest: those are checked; older ones are checked by the diff ids.
        for name in image.layers.iter().chain([&image.config]) {
            check_blob(archive, name)?;
        }
        Ok(Found { config: image.config, layers: image.layers, tags })
    });
    found.collect()
}

fn layout(archive: &Spooled) -> Result<Vec<Found>, ImageError> {
    let index: Document = archive.json("index.json")?;
    let mut found = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .find_map(|key| descriptor.annotations.get(*key));
        let tags = name.map(|name| familiar(name)).transpose()?.into_iter().collect();
        found.push(image(archive, &descriptor, tags, 0)?);
    }
    if found.is_empty() {
        return Err(ImageError::BadArchive("the layout's index names no image".to_owned()));
    }
    Ok(found)
}

/// The image of a descriptor; of an index, the one for this node's platform.
fn image(archive: &Spooled, descriptor: &Descriptor, tags: Vec<String>, depth: usize) -> Result<Found, ImageError> {
    let document: Document = archive.json(&blob(archive, descriptor)?)?;
    if let Some(manifests) = document.manifests {
        let (os, architecture) = platform();
        let ours =
            |one: &&Descriptor| one.platform.as_ref().is_some_and(|it| it.os == os && it.architecture == architecture);
        let mut others =
            manifests.iter().filter_map(|one| one.platform.as_ref()).map(|it| format!("{}/{}", it.os, it.architecture));
        let chosen = manifests.iter().find(ours).ok_or_else(|| ImageError::Platform {
            image: tags.first().cloned().unwrap_or_else(|| descriptor.digest.clone()),
            have: others.next().unwrap_or_else(|| "no known platform".to_owned()),
            want: format!("{os}/{architecture}"),
        })?;
        if depth >= MAX_DEPTH {
            return Err(ImageError::BadArchive("the layout's indexes name one another without an end".to_owned()));
        }
        return image(archive, chosen, tags, depth + 1);
    }
    let config = document.config.ok_or_else(|| ImageError::BadArchive("a manifest has no configuration".to_owned()))?;
    let layers =
        document.layers.unwrap_or_default().iter().map(|layer| blob(archive, layer)).collect::<Result<_, _>>()?;
    Ok(Found { config: blob(archive, &config)?, layers, tags })
}

/// The entry of a descriptor, whose bytes are those of its digest.
fn blob(archive: &Spooled, descriptor: &Descriptor) -> Result<String, ImageError> {
    if !is_digest(&descriptor.digest) {
        return Err(ImageError::BadArchive(format!("`{}` is no sha256 digest", descriptor.digest)));
    }
    let name = format!("blobs/sha256/{}", descriptor.digest.trim_start_matches("sha256:"));
    check_blob(archive, &name)?;
    Ok(name)
}

/// A blob that is named by its digest has the bytes of that digest.
fn check_blob(archive: &Spooled, name: &str) -> Result<(), ImageError> {
    let Some(want) = name.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}")) else { return Ok(()) };
    let have = archive.digest(name)?;
    if have == want { Ok(()) } else { Err(ImageError::Digest { what: name.to_owned(), have, want }) }
}

fn familiar(name: &str) -> Result<String, ImageError> {
    let parsed: Reference = name
        .parse()
        .map_err(|error: super::reference::ParseReferenceError| ImageError::BadArchive(error.to_string()))?;
    Ok(parsed.familiar())
}
