//! Raft's messages, over the channels between managers.

use async_trait::async_trait;
use secretd_proto::limit::MAX_MESSAGE_LENGTH;
use secretd_proto::v1;
use secretd_proto::v1::raft_client::RaftClient;
use secretd_store::Member;
use secretd_store::peers::{PeerError, Peers};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::links::{Mesh, Purpose};

impl Mesh {
    fn raft(&self, to: &Member, purpose: Purpose) -> RaftClient<Channel> {
        RaftClient::new(self.to(&to.address, Some(to.node), purpose))
            .max_decoding_message_size(MAX_MESSAGE_LENGTH)
            .max_encoding_message_size(MAX_MESSAGE_LENGTH)
    }
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn unanswered(status: tonic::Status) -> PeerError {
    PeerError(format!("{}: {}", status.code(), status.message()))
}

#[async_trait]
impl Peers for Mesh {
    async fn append(&self, to: &Member, request: v1::AppendRequest) -> Result<v1::AppendResponse, PeerError> {
        let purpose = if request.entries.is_empty() { Purpose::Urgent } else { Purpose::Bulk };
        let answer = self.raft(to, purpose).append(request).await;
        answer.map(tonic::Response::into_inner).map_err(unanswered)
    }

    async fn vote(&self, to: &Member, request: v1::VoteRequest) -> Result<v1::VoteResponse, PeerError> {
        let answer = self.raft(to, Purpose::Urgent).vote(request).await;
        answer.map(tonic::Response::into_inner).map_err(unanswered)
    }

    async fn install_snapshot(
        &self,
        to: &Member,
        chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, PeerError> {
        let answer = self.raft(to, Purpose::Bulk).install_snapshot(ReceiverStream::new(chunks)).await;
        answer.map(tonic::Response::into_inner).map_err(unanswered)
    }
}
