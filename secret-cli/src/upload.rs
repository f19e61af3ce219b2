//! An archive on its way to the node: read in a thread of its own, sent in pieces, with a bar where a person watches.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use futures::Stream;
use futures::stream;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;
use crate::output;

const PIECE: usize = 256 * 1024;
/// Pieces that are read ahead.
const AHEAD: usize = 4;

/// What is being read.
#[derive(Debug)]
pub(crate) struct Upload {
    name: String,
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    bar: ProgressBar,
}

/// Opens an archive, or standard input (`-`); `kind` is what is wanted.
pub(crate) fn open(source: &Path, kind: &str) -> Result<Upload, Failure> {
    let (name, file) = if source == Path::new("-") {
        ("standard input".to_owned(), io::stdin().as_fd().try_clone_to_owned().map(File::from))
    } else {
        (source.display().to_string(), File::open(source))
    };
    let file = file.map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    let metadata = file.metadata().map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    if metadata.is_dir() {
        return Err(Failure::failed(format!("cannot read {name}: it is a directory: give {kind}")));
    }
    let (sender, pieces) = mpsc::channel(AHEAD);
    let reader = std::thread::Builder::new().name("archive".to_owned()).spawn(move || read(file, &sender));
    reader.map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    Ok(Upload { name, pieces, bar: bar(metadata.is_file().then_some(metadata.len())) })
}

fn bar(length: Option<u64>) -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    match length {
        Some(length) => {
            let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}");
            ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
        None => ProgressBar::new_spinner(),
    }
}

fn read(mut file: File, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = match file.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Ok(piece)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        // A receiver that is gone has its reason.
        if sender.blocking_send(read).is_err() || failed {
            return;
        }
    }
}

impl Upload {
    /// Sends the pieces as `wrap` makes them messages, after `first`.
    ///
    /// When reading fails the call is dropped, not finished: the node must not take what is cut for the whole.
    pub(crate) async fn send<M, T, C, F>(self, first: Option<M>, wrap: fn(Vec<u8>) -> M, call: C) -> Result<T, Failure>
    where
        M: Send + 'static,
        C: FnOnce(std::pin::Pin<Box<dyn Stream<Item = M> + Send>>) -> F,
        F: Future<Output = Result<T, Failure>>,
    {
        let Self { name, pieces, bar } = self;
        let (failed, failure) = oneshot::channel();
        let progress = bar.clone();
        let body = stream::unfold((pieces, Some(failed), progress), move |(mut pieces, mut failed, bar)| async move {
            match pieces.recv().await? {
                Ok(piece) => {
                    bar.inc(piece.len() as u64);
                    Some((wrap(piece), (pieces, failed, bar)))
                }
                Err(error) => {
                    if let Some(failed) = failed.take() {
                        let _ = failed.send(error);
                    }
                    std::future::pending().await
                }
            }
        });
        let body = futures::StreamExt::chain(stream::iter(first), body);
        let outcome = tokio::select! {
            outcome = call(Box::pin(body)) => outcome,
            Ok(error) = failure => Err(Failure::failed(format!("cannot read {name}: {error}"))),
        };
        bar.finish_and_clear();
        outcome
    }
}
