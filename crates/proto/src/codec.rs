//! The codec of the service between nodes: protobuf by prost, with buffers that fit what they carry.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::mesh::{CallReply, CallRequest, Frame};

/// gRPC's message codec for messages between nodes.
#[derive(Debug)]
pub struct PeerCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for PeerCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The buffers of a link, one in each direction.
pub const FRAME_BUFFER_BYTES: usize = 64 * 1024;

/// A message, and the buffers of a stream of such messages.
pub trait Buffered: Message + Default + 'static {
    /// Allocated for each direction of a stream, and kept.
    const BUFFER_BYTES: usize;
}

/// Frames follow each other for as long as the link lasts: a buffer that is larger than what is ready at once is used
/// over and over, where a smaller one is allocated anew and copied for each large message.
impl Buffered for Frame {
    const BUFFER_BYTES: usize = FRAME_BUFFER_BYTES;
}

/// One message per stream.
impl Buffered for CallRequest {
    const BUFFER_BYTES: usize = 8 * 1024;
}

/// One message per stream.
impl Buffered for CallReply {
    const BUFFER_BYTES: usize = 8 * 1024;
}

/// What is ready goes to HTTP/2 in pieces of about this size.
const YIELD_BYTES: usize = 32 * 1024;

fn settings<M: Buffered>() -> BufferSettings {
    BufferSettings::new(M::BUFFER_BYTES, YIELD_BYTES)
}

impl<T: Buffered, U: Buffered> Codec for PeerCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(settings::<T>())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings::<U>())
    }
}
