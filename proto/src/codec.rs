//! How messages go over gRPC: as protobuf, with buffers of the size that most of them have.
//!
//! tonic makes a buffer for each direction of each call when the call begins. A manager has three streams to each node that
//! say little for months; with tonic's own 8 KiB these buffers would be a third of what a connection takes.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes of a buffer at first; one for a larger message grows.
const FIRST: usize = 512;
/// Bytes that are encoded before they are handed on: tonic's own.
const YIELD: usize = 32 * 1024;

/// The codec of all services.
pub struct Compact<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Compact<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for Compact<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compact")
    }
}

impl<T, U> Codec for Compact<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(FIRST, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(FIRST, YIELD))
    }
}
