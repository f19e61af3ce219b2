//! Layers: unpacked directories, named by the digest of their uncompressed archive (the diff id).

use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags};
use secretd_core::seam::images::ImageError;

use super::stream::{Hashing, complaint, decompressed};
use super::unpack::{UnpackError, unpack};

/// A layer that is unpacked and not yet in its place. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Unpacked {
    directory: Option<tempfile::TempDir>,
    /// `sha256:…`
    pub(super) diff_id: String,
    /// Bytes of files.
    pub(super) size: u64,
}

/// Unpacks one layer into a new directory below `tmp`.
pub(super) fn read(reader: impl Read + Send, tmp: &Utf8Path, max_unpacked: u64) -> Result<Unpacked, ImageError> {
    let directory = tempfile::Builder::new().prefix("layer-").tempdir_in(tmp).map_err(|error| node(tmp, &error))?;
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|error| node(tmp, &error))?;
    let root = rustix::fs::open(directory.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| node(tmp, &error.into()))?;
    let plain = decompressed(reader).map_err(|error| unreadable(&error))?;
    let mut hashing = Hashing::new(plain);
    let size = unpack(&mut hashing, &root, max_unpacked).map_err(|error| refused(tmp, error))?;
    let diff_id = hashing.finish().map_err(|error| unreadable(&error))?;
    Ok(Unpacked { directory: Some(directory), diff_id, size })
}

impl Unpacked {
    /// Puts the layer in its place. One that is there already is kept: it has the same digest.
    pub(super) fn place(mut self, layers: &Utf8Path) -> Result<(), ImageError> {
        let Some(directory) = self.directory.take() else { return Ok(()) };
        let to = path(layers, &self.diff_id);
        if to.exists() {
            return Ok(());
        }
        // A crash after the rename leaves a layer that no image names: the next start removes it.
        rustix::fs::syncfs(std::fs::File::open(directory.path()).map_err(|error| node(&to, &error))?)
            .map_err(|error| node(&to, &error.into()))?;
        let from = directory.keep();
        std::fs::rename(&from, &to).map_err(|error| {
            let _ = std::fs::remove_dir_all(&from);
            node(&to, &error)
        })
    }
}

/// Where the layer of a diff id is.
pub(super) fn path(layers: &Utf8Path, diff_id: &str) -> Utf8PathBuf {
    layers.join(diff_id.trim_start_matches("sha256:"))
}

/// A fault of the archive, or of the way on which it comes.
pub(super) fn unreadable(error: &io::Error) -> ImageError {
    ImageError::BadArchive(format!("the archive cannot be read: {}", complaint(error)))
}

/// A fault of the node's own disk.
pub(super) fn node(path: &Utf8Path, error: &io::Error) -> ImageError {
    if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind()) {
        return ImageError::Full(path.to_string());
    }
    ImageError::Node { step: path.to_string(), reason: error.to_string() }
}

fn refused(tmp: &Utf8Path, error: UnpackError) -> ImageError {
    match error {
        UnpackError::TooLarge { .. } | UnpackError::TooMany => ImageError::TooLarge(error.to_string()),
        UnpackError::Entry { source, .. } if matches!(node(tmp, &source), ImageError::Full(_)) => node(tmp, &source),
        UnpackError::Archive(_)
        | UnpackError::Empty
        | UnpackError::Device { .. }
        | UnpackError::Escape { .. }
        | UnpackError::Entry { .. } => ImageError::BadArchive(error.to_string()),
    }
}
