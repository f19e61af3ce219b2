//! The images service, as sctl calls it.

use std::fmt::Write;
use std::sync::Arc;

use expect_test::expect;
use hyper_util::rt::TokioIo;
use secretd_agent::images_api::ImagesApi;
use secretd_core::fake::images::FakeImages;
use secretd_core::seam::images::ImageError;
use secretd_proto::code::METADATA_KEY;
use secretd_proto::v1;
use secretd_proto::v1::images_client::ImagesClient;
use secretd_proto::v1::import_request::Part;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Server, Uri};

struct World {
    images: FakeImages,
    client: ImagesClient<Channel>,
    events: mpsc::UnboundedReceiver<(&'static str, String, String)>,
    _server: JoinSet<()>,
}

async fn world() -> World {
    let images = FakeImages::default();
    let (told, events) = mpsc::unbounded_channel();
    let service = ImagesApi::server(Arc::new(images.clone()), told);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let incoming = tokio_stream::iter([Ok::<DuplexStream, std::io::Error>(theirs)]);
    let mut server = JoinSet::new();
    server.spawn(async move {
        Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    let mut ours = Some(ours);
    let connector = tower::service_fn(move |_: Uri| {
        let ours = ours.take().map(TokioIo::new).ok_or_else(|| std::io::Error::other("connected already"));
        std::future::ready(ours)
    });
    let channel = Endpoint::from_static("http://images").connect_with_connector(connector).await.unwrap();
    World { images, client: ImagesClient::new(channel), events, _server: server }
}

fn start(tag: &str) -> v1::ImportRequest {
    let start = v1::ImportStart { tag: tag.to_owned(), ..v1::ImportStart::default() };
    v1::ImportRequest { part: Some(Part::Start(start)) }
}

fn data(bytes: &[u8]) -> v1::ImportRequest {
    v1::ImportRequest { part: Some(Part::Data(bytes.to_vec())) }
}

fn code(status: &Status) -> &str {
    status.metadata().get(METADATA_KEY).map_or("none", |code| code.to_str().unwrap())
}

#[tokio::test]
async fn an_imported_image_is_listed_and_told_of() {
    let mut world = world().await;
    let request = tokio_stream::iter([start("app:1"), data(b"abc"), data(b""), data(b"de")]);

    let imported = world.client.import(request).await.unwrap().into_inner().image.unwrap();

    let listed = world.client.list(v1::ListImagesRequest {}).await.unwrap().into_inner().images;
    assert_eq!((imported.size, imported.tags.as_slice()), (5, ["app:1".to_owned()].as_slice()));
    assert_eq!(listed.as_slice(), std::slice::from_ref(&imported));
    assert_eq!(world.events.recv().await, Some(("import", imported.id, "app:1".to_owned())));
}

#[tokio::test]
async fn an_import_without_a_start_or_with_two_is_refused() {
    let mut world = world().await;

    let without = world.client.import(tokio_stream::iter([data(b"abc")])).await.unwrap_err();
    let twice = world.client.import(tokio_stream::iter([start("app:1"), start("app:2")])).await.unwrap_err();

    assert_eq!((code(&without), code(&twice)), ("invalid-argument", "invalid-argument"));
}

#[tokio::test]
async fn a_pull_streams_its_progress_and_then_its_image() {
    let mut world = world().await;
    let request = v1::PullRequest { reference: "host/app:1".to_owned(), ..v1::PullRequest::default() };

    let mut stream = world.client.pull(request).await.unwrap().into_inner();

    let mut statuses = Vec::new();
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        statuses.push(message.status.clone());
        last = message.image;
    }
    assert_eq!(statuses, ["Downloading", "Pull complete", "Done"]);
    assert_eq!(last.unwrap().tags, ["host/app:1"]);
}

#[tokio::test]
async fn a_failed_pull_ends_its_stream_with_a_code() {
    let mut world = world().await;
    let (registry, repository) = ("host".to_owned(), "app".to_owned());
    world.images.fail_next(ImageError::Denied { registry, repository });
    let request = v1::PullRequest { reference: "host/app:1".to_owned(), ..v1::PullRequest::default() };

    let mut stream = world.client.pull(request).await.unwrap().into_inner();

    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.unwrap().image.is_none()),
            Err(status) => break status,
        }
    };
    assert_eq!(code(&status), "remote-denied");
}

#[tokio::test]
async fn a_loaded_archive_gives_all_its_images() {
    let mut world = world().await;
    let request = tokio_stream::iter([v1::LoadRequest { data: b"app:1\napp:2".to_vec() }]);

    let mut stream = world.client.load(request).await.unwrap().into_inner();

    let mut tags = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        tags.extend(message.image.unwrap().tags);
    }
    assert_eq!(tags, ["app:1", "app:2"]);
}

#[tokio::test]
async fn each_failure_has_its_code() {
    let mut world = world().await;
    let text = |text: &str| text.to_owned();
    let (have, want) = (text("linux/arm64"), text("linux/amd64"));
    let failures = [
        ImageError::NotFound(text("app")),
        ImageError::Ambiguous(text("ab")),
        ImageError::Invalid(text("bad reference")),
        ImageError::BadArchive(text("no archive")),
        ImageError::Digest { what: text("layer"), have: text("a"), want: text("b") },
        ImageError::Platform { image: text("app"), have, want },
        ImageError::Unreachable { registry: text("host"), reason: text("refused") },
        ImageError::InUse { image: text("app"), task: text("t") },
        ImageError::TooLarge(text("too large")),
        ImageError::Full(text("/data")),
        ImageError::Node { step: text("unpack"), reason: text("EIO") },
    ];
    let mut table = String::new();
    for failure in failures {
        world.images.fail_next(failure);
        let status = world.client.list(v1::ListImagesRequest {}).await.unwrap_err();
        writeln!(table, "{}: {}", code(&status), status.message()).unwrap();
    }

    expect![[r#"
        not-found: no such image: app
        ambiguous: image ab is ambiguous: give more characters of its id
        invalid-argument: bad reference
        invalid-argument: no archive
        corrupt: layer has digest a, not b: the source is damaged or lies
        unsupported: image app is for linux/arm64, this node is linux/amd64: use an image for linux/amd64
        remote-unreachable: registry host is not reachable: refused
        in-use: image app is in use by task t: stop it first, or use --force to remove the tag alone
        invalid-argument: too large
        storage-full: no space left on the device of /data: remove unused images with `sctl image rm`
        internal: unpack: EIO
    "#]]
    .assert_eq(&table);
}
