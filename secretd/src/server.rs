//! How gRPC is served, on every kind of connection.

use tonic::transport::Server;

/// A gRPC server that takes the largest secret without waiting for its sender: HTTP/2's own window is 64 KiB
/// (RFC 9113, 6.9.2), and each time that it is used up two processes take turns.
pub(crate) fn server() -> Server {
    const STREAM: u32 = 2 << 20;
    const CONNECTION: u32 = 2 * STREAM;
    const FRAME: u32 = 1 << 20;
    Server::builder()
        .initial_stream_window_size(STREAM)
        .initial_connection_window_size(CONNECTION)
        .max_frame_size(FRAME)
}
