//! The Images service: the images of the node that answers.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use secretd_core::seam::images::{ByteStream, Credentials, Image, ImageError, Images, Progress};
use secretd_core::wire::time_to_wire;
use secretd_proto::code::Code;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::status::status as refused;
use secretd_proto::v1;
use secretd_proto::v1::images_server::{Images as ImagesService, ImagesServer};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

/// Progress messages that wait for the client.
const CHANNEL: usize = 32;

/// Something happened to an image: action, id, name.
pub type ImageEvents = mpsc::UnboundedSender<(&'static str, String, String)>;

/// Serves the images of this node.
#[derive(Debug, Clone)]
pub struct ImagesApi {
    images: Arc<dyn Images>,
    events: ImageEvents,
}

impl ImagesApi {
    /// The service over a store of images.
    pub fn server(images: Arc<dyn Images>, events: ImageEvents) -> ImagesServer<Self> {
        let server = ImagesServer::new(Self { images, events });
        server.max_decoding_message_size(MAX_MESSAGE_LENGTH).max_encoding_message_size(MAX_MESSAGE_LENGTH)
    }

    fn tell(&self, action: &'static str, id: &str, name: &str) {
        let _ = self.events.send((action, id.to_owned(), name.to_owned())); // events are for who listens
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<v1::ImageProgress, Status>> + Send>>;

#[tonic::async_trait]
impl ImagesService for ImagesApi {
    type LoadStream = Messages;
    type PullStream = Messages;

    async fn import(
        &self,
        request: Request<Streaming<v1::ImportRequest>>,
    ) -> Result<Response<v1::ImportResponse>, Status> {
        use v1::import_request::Part;
        let mut stream = request.into_inner();
        let Some(v1::ImportRequest { part: Some(Part::Start(start)) }) = stream.message().await? else {
            return Err(invalid("the first message of an import must name the tag"));
        };
        let data = stream.map(|message| match message {
            Ok(v1::ImportRequest { part: Some(Part::Data(bytes)) }) => Ok(bytes),
            Ok(_) => Err(std::io::Error::other("an import has one start, then data")),
            Err(status) => Err(std::io::Error::other(status)),
        });
        let data = nonempty(data);
        let image = self.images.import(&start.tag, &start.changes, &start.message, data).await.map_err(status)?;
        self.tell("import", &image.id, &start.tag);
        Ok(Response::new(v1::ImportResponse { image: Some(to_wire(image)) }))
    }

    async fn load(&self, request: Request<Streaming<v1::LoadRequest>>) -> Result<Response<Messages>, Status> {
        let data = nonempty(request.into_inner().map(|message| match message {
            Ok(message) => Ok(message.data),
            Err(status) => Err(std::io::Error::other(status)),
        }));
        let this = self.clone();
        Ok(Response::new(with_progress(move |progress| async move {
            let images = this.images.load(data, progress).await?;
            for image in &images {
                let names = if image.tags.is_empty() { std::slice::from_ref(&image.id) } else { &image.tags };
                names.iter().for_each(|name| this.tell("load", &image.id, name));
            }
            Ok(images)
        })))
    }

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<Messages>, Status> {
        let request = request.into_inner();
        let credentials = Credentials { username: request.username, password: request.password };
        let this = self.clone();
        Ok(Response::new(with_progress(move |progress| async move {
            let image = this.images.pull(&request.reference, request.plain_http, credentials, progress).await?;
            this.tell("pull", &image.id, &request.reference);
            Ok(vec![image])
        })))
    }

    async fn list(&self, _request: Request<v1::ListImagesRequest>) -> Result<Response<v1::ListImagesResponse>, Status> {
        let images = self.images.list().await.map_err(status)?.into_iter().map(to_wire).collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn get(&self, request: Request<v1::GetImageRequest>) -> Result<Response<v1::GetImageResponse>, Status> {
        let image = self.images.get(&request.into_inner().reference).await.map_err(status)?;
        Ok(Response::new(v1::GetImageResponse { image: Some(to_wire(image)) }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let v1::RemoveImageRequest { reference, force } = request.into_inner();
        let (untagged, deleted) = self.images.remove(&reference, force).await.map_err(status)?;
        untagged.iter().for_each(|tag| self.tell("untag", "", tag));
        deleted.first().into_iter().for_each(|id| self.tell("delete", id, &reference));
        Ok(Response::new(v1::RemoveImageResponse { untagged, deleted }))
    }

    async fn tag(&self, request: Request<v1::TagImageRequest>) -> Result<Response<v1::TagImageResponse>, Status> {
        let v1::TagImageRequest { reference, tag } = request.into_inner();
        self.images.tag(&reference, &tag).await.map_err(status)?;
        self.tell("tag", "", &tag);
        Ok(Response::new(v1::TagImageResponse {}))
    }
}

/// An empty chunk would mean the end of the data.
fn nonempty(data: impl Stream<Item = Result<Vec<u8>, std::io::Error>> + Send + 'static) -> ByteStream {
    Box::pin(data.filter(|chunk| std::future::ready(!matches!(chunk, Ok(bytes) if bytes.is_empty()))))
}

/// Runs long work, and streams its progress, then its images or its failure. A client that goes away ends it.
fn with_progress<F>(work: impl FnOnce(mpsc::Sender<Progress>) -> F) -> Messages
where
    F: Future<Output = Result<Vec<Image>, ImageError>> + Send + 'static,
{
    let (sender, progress) = mpsc::channel(CHANNEL);
    let working = Working { progress, work: Some(Box::pin(work(sender))), done: None };
    Box::pin(futures::stream::unfold(working, Working::next).flat_map(futures::stream::iter))
}

struct Working<F> {
    progress: mpsc::Receiver<Progress>,
    work: Option<Pin<Box<F>>>,
    done: Option<Result<Vec<Image>, ImageError>>,
}

type Told = Vec<Result<v1::ImageProgress, Status>>;

impl<F: Future<Output = Result<Vec<Image>, ImageError>>> Working<F> {
    async fn next(mut self) -> Option<(Told, Self)> {
        while let Some(work) = &mut self.work {
            tokio::select! {
                biased;
                Some(progress) = self.progress.recv() => return Some((vec![Ok(step(progress))], self)), // cancel-safe
                done = work => (self.work, self.done) = (None, Some(done)), // by reference: goes on
            }
        }
        // What was told last comes before the end.
        if let Some(progress) = self.progress.recv().await {
            return Some((vec![Ok(step(progress))], self));
        }
        self.done.take().map(|done| (end(done), self))
    }
}

fn step(progress: Progress) -> v1::ImageProgress {
    let Progress { id, status, current, total } = progress;
    v1::ImageProgress { id, status, current, total, image: None }
}

fn end(done: Result<Vec<Image>, ImageError>) -> Told {
    let message = |image| v1::ImageProgress {
        status: "Done".to_owned(),
        image: Some(to_wire(image)),
        ..v1::ImageProgress::default()
    };
    match done {
        Ok(images) => images.into_iter().map(|image| Ok(message(image))).collect(),
        Err(error) => vec![Err(status(error))],
    }
}

fn to_wire(image: Image) -> v1::Image {
    v1::Image {
        id: image.id,
        tags: image.tags,
        digests: image.digests,
        created_at: Some(time_to_wire(image.created_at)),
        size: image.size,
        os: image.os,
        architecture: image.architecture,
        config_json: image.config_json,
        layers: image.layers,
    }
}

fn invalid(message: &str) -> Status {
    refused(Code::InvalidArgument, message)
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn status(error: ImageError) -> Status {
    let code = match &error {
        ImageError::NotFound(_) => Code::NotFound,
        ImageError::Ambiguous(_) => Code::Ambiguous,
        ImageError::Invalid(_) | ImageError::BadArchive(_) | ImageError::TooLarge(_) => Code::InvalidArgument,
        ImageError::Digest { .. } => Code::Corrupt,
        ImageError::Platform { .. } => Code::Unsupported,
        ImageError::Unreachable { .. } => Code::RemoteUnreachable,
        ImageError::Denied { .. } => Code::RemoteDenied,
        ImageError::InUse { .. } => Code::InUse,
        ImageError::Full(_) => Code::StorageFull,
        ImageError::Node { .. } => Code::Internal,
    };
    refused(code, error.to_string())
}
