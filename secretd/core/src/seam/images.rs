//! Images of this node.
//!
//! Every call is all or nothing: an import, load or pull that fails or is cancelled leaves no image, no tag and no
//! layer behind.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use futures::Stream;
use tokio::sync::mpsc;

use crate::time::Timestamp;

/// An image as the node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `name:tag`, normalized as Docker does without the default registry.
    pub tags: Vec<String>,
    /// `name@sha256:…` as registries know it.
    pub digests: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// `linux`.
    pub os: String,
    /// Go's word: `amd64`.
    pub architecture: String,
    /// The OCI image configuration, as it is.
    pub config_json: String,
    /// Diff ids, lowest first.
    pub layers: Vec<String>,
}

/// Why an image could not be had, made or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// There is none of that name here.
    #[error("no such image: {0}")]
    NotFound(String),
    /// More than one has an id that begins so.
    #[error("image {0} is ambiguous: give more characters of its id")]
    Ambiguous(String),
    /// A reference or a Dockerfile instruction breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The bytes are no archive, no layout, or lead out of the root.
    #[error("{0}")]
    BadArchive(String),
    /// The bytes are not those of their digest.
    #[error("{what} has digest {have}, not {want}: the source is damaged or lies")]
    Digest {
        /// What was read.
        what: String,
        /// Of the bytes.
        have: String,
        /// Promised.
        want: String,
    },
    /// It is for another platform.
    #[error("image {image} is for {have}, this node is {want}: use an image for {want}")]
    Platform {
        /// The image.
        image: String,
        /// `os/architecture` of the image.
        have: String,
        /// Of the node.
        want: String,
    },
    /// The registry cannot be reached.
    #[error("registry {registry} is not reachable: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// The system's words.
        reason: String,
    },
    /// The registry wants other credentials.
    #[error("registry {registry} denies access to {repository}: give credentials with --username and --password-stdin")]
    Denied {
        /// Host and port.
        registry: String,
        /// What was asked for.
        repository: String,
    },
    /// Something uses it.
    #[error("image {image} is in use by task {task}: stop it first, or use --force to remove the tag alone")]
    InUse {
        /// The image.
        image: String,
        /// One of its users.
        task: String,
    },
    /// It is larger than the node allows.
    #[error("{0}")]
    TooLarge(String),
    /// The disk is full.
    #[error("no space left on the device of {0}: remove unused images with `sctl image rm`")]
    Full(String),
    /// The node itself failed.
    #[error("{step}: {reason}")]
    Node {
        /// What was being done.
        step: String,
        /// The system's words.
        reason: String,
    },
}

/// One step of a pull or load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// A layer's digest, shortened; empty for the whole.
    pub id: String,
    /// Docker's words: `Downloading`, `Extracting`, `Pull complete`.
    pub status: String,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all; 0 when not known.
    pub total: u64,
}

/// Credentials for a registry. Never kept, never shown.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Empty for none.
    pub username: String,
    /// Empty for none.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// The bytes of an archive as they come in.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, std::io::Error>> + Send>>;

/// Images of this node.
#[async_trait]
pub trait Images: Send + Sync + fmt::Debug {
    /// A root filesystem as one layer.
    async fn import(&self, tag: &str, changes: &[String], message: &str, data: ByteStream)
    -> Result<Image, ImageError>;
    /// The images of an OCI layout or docker-save archive.
    async fn load(&self, data: ByteStream, progress: mpsc::Sender<Progress>) -> Result<Vec<Image>, ImageError>;
    /// From a registry.
    async fn pull(
        &self,
        reference: &str,
        plain_http: bool,
        credentials: Credentials,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Image, ImageError>;
    /// All, newest first.
    async fn list(&self) -> Result<Vec<Image>, ImageError>;
    /// By tag, digest, id or id prefix.
    async fn get(&self, reference: &str) -> Result<Image, ImageError>;
    /// One more tag.
    async fn tag(&self, reference: &str, tag: &str) -> Result<(), ImageError>;
    /// Removes a tag, and the image with its last tag: what was untagged, what was deleted.
    async fn remove(&self, reference: &str, force: bool) -> Result<(Vec<String>, Vec<String>), ImageError>;
}
