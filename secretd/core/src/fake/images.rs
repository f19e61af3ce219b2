//! Images that are names in a list. An archive is its tags, one a line.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::seam::images::{ByteStream, Credentials, Image, ImageError, Images, Progress};
use crate::time::Timestamp;

/// Images in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct FakeImages(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    images: Vec<Image>,
    failures: VecDeque<ImageError>,
}

impl FakeImages {
    /// The next call fails.
    pub fn fail_next(&self, error: ImageError) {
        self.0.lock().failures.push_back(error);
    }

    fn failure(&self) -> Result<(), ImageError> {
        self.0.lock().failures.pop_front().map_or(Ok(()), Err)
    }

    fn add(&self, tag: &str, size: u64) -> Image {
        let mut state = self.0.lock();
        let image = Image {
            id: format!("sha256:{:064x}", state.images.len() + 1),
            tags: vec![tag.to_owned()],
            digests: Vec::new(),
            created_at: Timestamp(0),
            size,
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            config_json: "{}".to_owned(),
            layers: Vec::new(),
        };
        state.images.push(image.clone());
        image
    }
}

async fn read(data: ByteStream) -> Result<Vec<u8>, ImageError> {
    let chunks: Vec<Vec<u8>> =
        data.try_collect().await.map_err(|error| ImageError::BadArchive(format!("the archive breaks off: {error}")))?;
    Ok(chunks.concat())
}

#[async_trait]
impl Images for FakeImages {
    async fn import(&self, tag: &str, _: &[String], _: &str, data: ByteStream) -> Result<Image, ImageError> {
        self.failure()?;
        let size = read(data).await?.len() as u64;
        Ok(self.add(tag, size))
    }

    async fn load(&self, data: ByteStream, _: mpsc::Sender<Progress>) -> Result<Vec<Image>, ImageError> {
        self.failure()?;
        let data = read(data).await?;
        Ok(String::from_utf8_lossy(&data).lines().map(|tag| self.add(tag, 0)).collect())
    }

    async fn pull(
        &self,
        reference: &str,
        _: bool,
        _: Credentials,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Image, ImageError> {
        for (status, current) in [("Downloading", 1), ("Pull complete", 2)] {
            let step = Progress { id: "layer".to_owned(), status: status.to_owned(), current, total: 2 };
            let _ = progress.send(step).await; // it is for who listens
        }
        self.failure()?;
        Ok(self.add(reference, 2))
    }

    async fn list(&self) -> Result<Vec<Image>, ImageError> {
        self.failure()?;
        Ok(self.0.lock().images.iter().rev().cloned().collect())
    }

    async fn get(&self, reference: &str) -> Result<Image, ImageError> {
        self.failure()?;
        let state = self.0.lock();
        let is_meant = |image: &&Image| image.id == reference || image.tags.iter().any(|tag| tag == reference);
        state.images.iter().find(is_meant).cloned().ok_or_else(|| ImageError::NotFound(reference.to_owned()))
    }

    async fn tag(&self, reference: &str, tag: &str) -> Result<(), ImageError> {
        let id = self.get(reference).await?.id;
        for image in self.0.lock().images.iter_mut().filter(|image| image.id == id) {
            image.tags.push(tag.to_owned());
        }
        Ok(())
    }

    async fn remove(&self, reference: &str, _: bool) -> Result<(Vec<String>, Vec<String>), ImageError> {
        let image = self.get(reference).await?;
        self.0.lock().images.retain(|other| other.id != image.id);
        Ok((image.tags, vec![image.id]))
    }
}
