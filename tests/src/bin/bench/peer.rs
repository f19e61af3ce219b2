//! Docker, where it can be had; what was measured elsewhere, where it cannot.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Where Docker is unpacked, if it is.
#[derive(Debug)]
pub(crate) struct Peer(Option<PathBuf>);

impl Peer {
    /// The directory counts when it has Docker's daemon.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self(Some(root).filter(|root| root.join("usr/sbin/dockerd").is_file()))
    }

    /// Where Docker is unpacked.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// What the table calls it.
    pub(crate) fn name(&self) -> &'static str {
        if self.0.is_some() { "Swarm" } else { "Swarm (measured elsewhere)" }
    }

    /// Measures it now, or gives what was measured elsewhere.
    pub(crate) fn or<T>(&self, written_down: T, measure: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        self.root().map_or(Ok(written_down), measure)
    }
}
