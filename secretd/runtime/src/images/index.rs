//! Which images there are: one file, written whole, and everything that is looked up in it.

use std::io;

use camino::Utf8Path;
use secretd_core::seam::images::{Image, ImageError};
use secretd_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::reference::{Reference, is_digest};

/// An image, as the index has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `sha256:…` of the configuration.
    pub(super) id: String,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    pub(super) created_unix_nanos: i64,
    pub(super) os: String,
    pub(super) architecture: String,
    /// Lowest first.
    pub(super) layers: Vec<Layer>,
}

/// A layer of an image. Several images may have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) diff_id: String,
    /// Bytes of its files.
    pub(super) size: u64,
}

/// All images.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) images: Vec<Record>,
}

impl Record {
    /// As the seam has it, with the configuration's text.
    pub(super) fn to_image(&self, config_json: String) -> Image {
        Image {
            id: self.id.clone(),
            tags: self.tags.clone(),
            digests: self.digests.clone(),
            created_at: Timestamp(self.created_unix_nanos),
            size: self.layers.iter().map(|layer| layer.size).sum(),
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            config_json,
            layers: self.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        }
    }
}

impl Index {
    /// Reads the index; none is an empty one.
    pub(super) fn load(path: &Utf8Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let directory = path.parent().unwrap_or(path);
                io::Error::other(format!("it is damaged ({error}): remove {directory} to begin without images"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes the index: whole or not at all.
    pub(super) fn save(&self, path: &Utf8Path) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        write_whole(path, &bytes)
    }

    /// The image that a reference names: by tag, digest, id, or the beginning of an id of four digits or more.
    pub(super) fn find(&self, text: &str) -> Result<&Record, ImageError> {
        let not_found = || ImageError::NotFound(text.to_owned());
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(reference) = text.parse::<Reference>() {
            let tag = reference.familiar();
            let by_digest = |record: &&Record| {
                reference
                    .digest
                    .as_ref()
                    .is_some_and(|digest| record.digests.iter().any(|known| known.ends_with(digest)))
            };
            let by_tag = |record: &&Record| reference.digest.is_none() && record.tags.contains(&tag);
            if let Some(record) = self.images.iter().find(|record| by_tag(record) || by_digest(record)) {
                return Ok(record);
            }
        }
        let is_prefix = hex.len() >= 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix && !is_digest(text) {
            return Err(not_found());
        }
        let mut found = self.images.iter().filter(|record| record.id.trim_start_matches("sha256:").starts_with(hex));
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err(ImageError::Ambiguous(text.to_owned())),
            (None, _) => Err(not_found()),
        }
    }

    /// Adds an image, or its tags to the one that is there. A tag names one image: it leaves another.
    pub(super) fn add(&mut self, new: Record) {
        for record in &mut self.images {
            record.tags.retain(|tag| !new.tags.contains(tag));
        }
        match self.images.iter_mut().find(|record| record.id == new.id) {
            Some(record) => {
                record.tags.extend(new.tags);
                let fresh: Vec<String> =
                    new.digests.into_iter().filter(|digest| !record.digests.contains(digest)).collect();
                record.digests.extend(fresh);
            }
            None => self.images.push(new),
        }
    }

    /// The layer of this name, if some image has it.
    pub(super) fn layer(&self, diff_id: &str) -> Option<&Layer> {
        self.images.iter().flat_map(|record| &record.layers).find(|layer| layer.diff_id == diff_id)
    }
}

/// Writes a file under another name, syncs it, renames it and syncs the directory.
pub(super) fn write_whole(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: char, tags: &[&str]) -> Record {
        Record {
            id: format!("sha256:{}", id.to_string().repeat(64)),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            digests: vec![],
            created_unix_nanos: 0,
            os: "linux".into(),
            architecture: "amd64".into(),
            layers: vec![],
        }
    }

    #[test]
    fn images_are_found_by_tag_and_by_the_beginning_of_an_id() {
        let mut index = Index::default();
        index.add(record('a', &["app:1", "app:latest"]));
        index.add(record('b', &["other:1"]));

        assert_eq!(index.find("app").unwrap().id, record('a', &[]).id);
        assert_eq!(index.find("bbbb").unwrap().id, record('b', &[]).id);
        assert_eq!(index.find("bbb"), Err(ImageError::NotFound("bbb".into())));
        assert_eq!(index.find("app:2"), Err(ImageError::NotFound("app:2".into())));
        index.images.push(Record { id: format!("sha256:{}c", "b".repeat(63)), ..record('b', &[]) });
        assert_eq!(index.find("bbbb"), Err(ImageError::Ambiguous("bbbb".into())));
    }

    #[test]
    fn tag_moves_to_the_newest_image() {
        let mut index = Index::default();
        index.add(record('a', &["app:1"]));
        index.add(record('b', &["app:1"]));

        assert!(index.images[0].tags.is_empty());
        assert_eq!(index.find("app:1").unwrap().id, record('b', &[]).id);
    }
}
