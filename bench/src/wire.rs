//! gRPC with messages that are encoded already: what is sent was made before the clock started, and both sides of a
//! comparison go through the same few lines.

use crate::Result;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// Largest answer, bytes: 8,192 outcomes, each with an id.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Messages as they are on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> std::result::Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// One unary call.
///
/// # Errors
/// The server's status, or UNAVAILABLE when it is not reached.
pub async fn unary(channel: Channel, path: &'static str, request: Bytes) -> std::result::Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let reply = grpc.unary(Request::new(request), PathAndQuery::from_static(path), Encoded).await?;
    Ok(reply.into_inner())
}

/// One stream both ways.
///
/// # Errors
/// As [`unary`].
pub async fn streaming(
    channel: Channel,
    path: &'static str,
    requests: impl tokio_stream::Stream<Item = Bytes> + Send + 'static,
) -> std::result::Result<Streaming<Bytes>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let reply = grpc.streaming(Request::new(requests), PathAndQuery::from_static(path), Encoded).await?;
    Ok(reply.into_inner())
}

/// What an answer says: the log index at which the commands were decided, or what was refused.
pub type Reader = fn(&Bytes) -> Result<u64>;
