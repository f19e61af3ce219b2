//! A tar archive on the disk, read entry by entry in any order. No path of it is ever written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use camino::Utf8Path;
use secretd_core::seam::images::ImageError;
use serde::de::DeserializeOwned;

use super::layer::{node, unreadable};
use super::stream::{Hashing, decompressed};

/// The largest document (manifest, configuration) that is read into memory.
const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;

/// More entries than any archive of images has.
const MAX_ENTRIES: usize = 100_000;

/// An archive, spooled to a file without a name.
#[derive(Debug)]
pub(super) struct Spooled {
    file: File,
    /// Where each regular file's bytes are: offset and length.
    entries: BTreeMap<String, (u64, u64)>,
}

impl Spooled {
    /// Spools what `reader` gives, decompressed where it is compressed.
    pub(super) fn read(reader: impl Read + Send, tmp: &Utf8Path, max_bytes: u64) -> Result<Self, ImageError> {
        let mut file = tempfile::tempfile_in(tmp).map_err(|error| node(tmp, &error))?;
        let mut plain = decompressed(reader).map_err(|error| unreadable(&error))?.take(max_bytes.saturating_add(1));
        let mut buffer = vec![0; 128 * 1024];
        let mut length: u64 = 0;
        loop {
            let read = plain.read(&mut buffer).map_err(|error| unreadable(&error))?;
            if read == 0 {
                break;
            }
            length += read as u64;
            if length > max_bytes {
                return Err(ImageError::TooLarge(format!("the archive has more than {max_bytes} bytes")));
            }
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(|error| node(tmp, &error))?;
        }
        let entries = index(&mut file)?;
        Ok(Self { file, entries })
    }

    /// Whether there is such an entry.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Bytes of an entry.
    pub(super) fn length(&self, name: &str) -> u64 {
        self.entries.get(name).map_or(0, |(_, length)| *length)
    }

    /// The bytes of an entry, to be read.
    pub(super) fn reader(&self, name: &str) -> Result<impl Read + Send + use<>, ImageError> {
        let (offset, length) =
            *self.entries.get(name).ok_or_else(|| ImageError::BadArchive(format!("the archive has no `{name}`")))?;
        let mut file = self.file.try_clone().map_err(|error| unreadable(&error))?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| unreadable(&error))?;
        Ok(file.take(length))
    }

    /// A document, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        if self.length(name) > MAX_DOCUMENT {
            return Err(ImageError::TooLarge(format!("`{name}` of the archive has more than {MAX_DOCUMENT} bytes")));
        }
        let mut bytes = Vec::new();
        self.reader(name)?.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        Ok(bytes)
    }

    /// A JSON document.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ImageError> {
        serde_json::from_slice(&self.document(name)?)
            .map_err(|error| ImageError::BadArchive(format!("`{name}` of the archive cannot be read: {error}")))
    }

    /// The digest of an entry's bytes.
    pub(super) fn digest(&self, name: &str) -> Result<String, ImageError> {
        Hashing::new(self.reader(name)?).finish().map_err(|error| unreadable(&error))
    }
}

fn index(file: &mut File) -> Result<BTreeMap<String, (u64, u64)>, ImageError> {
    file.rewind().map_err(|error| unreadable(&error))?;
    let mut archive = tar::Archive::new(&*file);
    let mut entries = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            entries.insert(name, (entry.raw_file_position(), entry.size()));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(ImageError::TooLarge(format!("the archive has more than {MAX_ENTRIES} entries")));
        }
    }
    if entries.is_empty() {
        return Err(ImageError::BadArchive(
            "the archive has no file: is it an OCI layout or a docker-save archive?".to_owned(),
        ));
    }
    Ok(entries)
}
