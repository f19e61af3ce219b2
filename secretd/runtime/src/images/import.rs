//! A root filesystem becomes an image of one layer.

use secretd_core::seam::images::{ByteStream, Image, ImageError};
use serde_json::json;

use super::changes;
use super::config::platform;
use super::reference::Reference;
use super::store::{ImageStore, Incoming};
use super::stream::StreamReader;
use super::{layer, stream};
use crate::timestamp::rfc3339;

impl ImageStore {
    pub(super) async fn import_archive(
        &self,
        tag: &str,
        lines: &[String],
        message: &str,
        data: ByteStream,
    ) -> Result<Image, ImageError> {
        let tag: Reference = tag
            .parse()
            .map_err(|error: super::reference::ParseReferenceError| ImageError::Invalid(error.to_string()))?;
        if tag.digest.is_some() {
            return Err(ImageError::Invalid(format!("`{tag}`: a tag has no digest")));
        }
        let config = changes::apply(lines).map_err(|error| ImageError::Invalid(error.to_string()))?;
        let (reader, feed) = StreamReader::new(data);
        let (tmp, limit) = (self.tmp(), self.max_unpacked());
        let unpacking = tokio::task::spawn_blocking(move || layer::read(reader, &tmp, limit));
        let (unpacked, ()) = tokio::join!(unpacking, feed);
        let unpacked = unpacked
            .map_err(|_| ImageError::Node { step: "import".to_owned(), reason: "it was interrupted".to_owned() })??;

        let now = self.now();
        let (os, architecture) = platform();
        let config = json!({
            "architecture": architecture,
            "os": os,
            "created": rfc3339(now),
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [unpacked.diff_id]},
            "history": [{"created": rfc3339(now), "comment": if message.is_empty() { "Imported" } else { message }}],
        });
        let config = config.to_string().into_bytes();
        let id = stream::digest(&config);
        self.add(Incoming { id, config, layers: vec![unpacked], tags: vec![tag.familiar()], digests: Vec::new() }).await
    }
}
