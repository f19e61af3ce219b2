//! Bytes on their way into a layer: from a channel to a blocking reader, decompressed, and hashed as they pass.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use futures::StreamExt;
use secretd_core::seam::images::ByteStream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// Compressions that are not read, by the first bytes of a file.
const FOREIGN: [(&[u8], &str); 3] = [(b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x5d\0\0", "lzma")];

/// Reads what an asynchronous stream delivers. For a thread that may block.
#[derive(Debug)]
pub(super) struct StreamReader {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
}

impl StreamReader {
    /// The reader, and what feeds it as long as it is awaited. A feeder that is dropped makes the reader fail: an archive
    /// whose sender is gone must not look like a short one.
    pub(super) fn new(mut stream: ByteStream) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, chunks) = mpsc::channel(4);
        let feed = async move {
            while let Some(chunk) = stream.next().await {
                if sender.send(chunk).await.is_err() {
                    return; // the reader has seen enough
                }
            }
            let _ = sender.send(Ok(Vec::new())).await; // the end, said aloud
        };
        (Self { chunks, current: io::Cursor::new(Vec::new()) }, feed)
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.current.read(buffer)?;
        if length > 0 || buffer.is_empty() {
            return Ok(length);
        }
        match self.chunks.blocking_recv() {
            Some(Ok(chunk)) if chunk.is_empty() => {
                self.chunks.close();
                Ok(0)
            }
            Some(Ok(chunk)) => {
                self.current = io::Cursor::new(chunk);
                self.read(buffer)
            }
            Some(Err(error)) => Err(error),
            None if self.chunks.is_closed() => Ok(0),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the sender has gone away")),
        }
    }
}

/// Hashes what is read through it.
#[derive(Debug)]
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// `sha256:…` of everything up to the end, which is read now where it was not yet.
    pub(super) fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(format!("sha256:{}", hex(&self.hash.finalize())))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sha256:…` of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// What an archive's reader complains of, in letters that any terminal shows: it may quote the archive.
pub(super) fn complaint(error: &io::Error) -> String {
    const LENGTH: usize = 160;
    let text = error.to_string();
    if text.contains("when getting cksum") {
        return "it is no tar archive, or it is damaged".to_owned(); // the crate tar quotes all of the header
    }
    let shown = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    text.chars().take(LENGTH).map(shown).collect()
}

/// The tar archive in `reader`, whatever it is compressed with: gzip, zstd or nothing, told by its first bytes.
///
/// # Errors
/// When it is compressed with something else, or cannot be read.
pub(super) fn decompressed<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(reader))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(reader)?)
    } else if let Some((_, tool)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(io::Error::other(format!(
            "it is compressed with {tool}: give it plain, or compressed with gzip or zstd"
        )));
    } else {
        Box::new(reader)
    })
}
