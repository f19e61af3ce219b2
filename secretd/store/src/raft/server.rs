//! What other managers ask of this one's raft.

use std::fmt;
use std::sync::Arc;

use camino::Utf8PathBuf;
use openraft::EntryPayload;
use openraft::raft::AppendEntriesResponse;
use secretd_proto::v1;
use secretd_proto::v1::snapshot_chunk::Chunk;
use secretd_proto::v1::standing::Verdict;
use tokio::sync::{Mutex, mpsc};

use super::config::{Batch, Entry, Raft};
use super::message;
use super::proposer::{RESERVE_BYTES, fits, space};
use super::stream::{Incoming, ReceiveError};
use super::witness::Witness;
use crate::engine::Engine;
use crate::failure::StorageFailure;
use crate::ground::{Threads, aside};
use crate::record::raft::vote_message;

/// Why a request of another manager was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It is meant for another member: an address has passed on, or a node has become a manager anew.
    #[error("this is another member than the one that is meant")]
    OtherMember,
    /// It is no request of raft's.
    #[error("the request is not understood")]
    Message(#[from] StorageFailure),
    /// A snapshot did not come through.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// There is no room for what it brings. It is taken when there is.
    #[error("the disk that holds the data directory is full")]
    Full,
    /// Raft has stopped here.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

/// Serves the requests of raft. Clones serve the same member.
#[derive(Clone)]
pub struct RaftServer {
    raft: Raft,
    member: u64,
    engine: Arc<Engine>,
    threads: Arc<dyn Threads>,
    witness: Arc<Witness>,
    incoming: Utf8PathBuf,
    /// One snapshot at a time.
    receiving: Arc<Mutex<()>>,
}

impl fmt::Debug for RaftServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftServer").field("member", &self.member).finish_non_exhaustive()
    }
}

impl RaftServer {
    pub(crate) fn new(
        raft: Raft,
        member: u64,
        engine: Arc<Engine>,
        threads: Arc<dyn Threads>,
        witness: Arc<Witness>,
    ) -> Self {
        let incoming = engine.directory().join("incoming");
        Self { raft, member, engine, threads, witness, incoming, receiving: Arc::default() }
    }

    /// Takes log entries. What is answered with success is durable.
    ///
    /// Entries that do not fit on the disk are left out, as the engine must not meet a full disk in the middle of a commit:
    /// the leader sends them again, and is followed meanwhile.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn append(&self, request: v1::AppendRequest) -> Result<v1::AppendResponse, ServeError> {
        self.check(request.to)?;
        let by = request.standing.unwrap_or_default().member;
        let standing = self.judge(request.standing);
        if standing.verdict() != Verdict::Served {
            return Ok(v1::AppendResponse { outcome: None, standing: Some(standing) });
        }
        self.witness.hear(&request.witnessed);
        let mut request = message::append_request_of(request)?;
        let asked = request.entries.len();
        request.entries.truncate(fitting(self.engine.free_bytes(), &request.entries));
        let taken = (request.entries.len() < asked).then(|| request.entries.last().map(|entry| entry.log_id));
        let answer = self.raft.append_entries(request).await;
        let answer = match (answer.map_err(|error| ServeError::Stopped(error.to_string()))?, taken) {
            (AppendEntriesResponse::Success, Some(None)) => return Err(ServeError::Full),
            (AppendEntriesResponse::Success, Some(up_to)) => AppendEntriesResponse::PartialSuccess(up_to),
            (answer, _) => answer,
        };
        // How far the store is now, with what was taken.
        let standing = Some(self.witness.standing(by));
        Ok(v1::AppendResponse { standing, ..message::append_response(&answer) })
    }

    /// Looks at what a manager knows of this one that this one does not know: in a store from before it was one, it is in no
    /// list. Nothing else that it says counts.
    pub fn look(&self, to: u64, standing: Option<v1::Standing>) {
        if to == self.member {
            let known = standing.and_then(|standing| standing.known).map(Into::into);
            let _ = self.witness.check(known, "a manager that this one does not know"); // whoever waits for it is told
        }
    }

    /// Answers a candidate. A vote that is given is durable.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn vote(&self, request: v1::VoteRequest) -> Result<v1::VoteResponse, ServeError> {
        self.check(request.to)?;
        let by = request.standing.unwrap_or_default().member;
        let standing = self.judge(request.standing);
        if standing.verdict() != Verdict::Served {
            return Ok(v1::VoteResponse { standing: Some(standing), ..v1::VoteResponse::default() });
        }
        let answer = self.raft.vote(message::vote_request_of(request)?).await;
        let answer = answer.map_err(|error| ServeError::Stopped(error.to_string()))?;
        Ok(v1::VoteResponse { standing: Some(self.witness.standing(by)), ..message::vote_response(&answer) })
    }

    /// Takes a state in place of the log. When it returns, the state is durable and in every view.
    ///
    /// # Errors
    /// See [`ServeError`]; nothing is changed then.
    pub async fn install_snapshot(
        &self,
        mut chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, ServeError> {
        let _one = self.receiving.lock().await;
        let (engine, directory, member) = (Arc::clone(&self.engine), self.incoming.clone(), self.member);
        let first = chunks.recv().await.ok_or(ReceiveError::BrokenOff)?;
        let shown = match &first.chunk {
            // What is known of another member at this address says nothing of this one.
            Some(Chunk::Header(header)) if header.to != member => return Err(ReceiveError::OtherMember.into()),
            Some(Chunk::Header(header)) => header.standing,
            Some(Chunk::Record(_) | Chunk::Payload(_) | Chunk::End(_)) | None => None,
        };
        match self.judge(shown).verdict() {
            Verdict::Served => {}
            Verdict::Stranger => return Err(ReceiveError::Standing("its sender is not known yet").into()),
            Verdict::RolledBack => return Err(ReceiveError::Standing("this store was rolled back").into()),
        }
        let receive = async move {
            let mut incoming = Incoming::begin(&engine.disk(), directory, engine.sealer(), member, first)?;
            loop {
                let chunk = chunks.recv().await.ok_or(ReceiveError::BrokenOff)?;
                if incoming.take(chunk)? {
                    return Ok::<_, ReceiveError>(incoming);
                }
            }
        };
        let stopped = |error: String| ServeError::Stopped(error);
        let received = aside(&*self.threads, receive).await;
        let mut incoming = received.ok_or_else(|| stopped("taking a snapshot has panicked".to_owned()))??;
        // Its payloads are copied, then the first copy goes.
        if self.engine.free_bytes() < incoming.bytes() + RESERVE_BYTES {
            return Err(ServeError::Full);
        }
        let (vote, snapshot) = incoming.snapshot();
        let answer = self.raft.install_full_snapshot(vote, snapshot).await;
        let answer = answer.map_err(|error| stopped(error.to_string()))?;
        let by = shown.unwrap_or_default().member;
        Ok(v1::SnapshotResponse { vote: Some(vote_message(&answer.vote)), standing: Some(self.witness.standing(by)) })
    }

    /// What is known of each other, before a request is looked at.
    fn judge(&self, standing: Option<v1::Standing>) -> v1::Standing {
        let asker = standing.unwrap_or_default().member;
        let config = Arc::clone(&self.raft.metrics().borrow().membership_config);
        match config.membership().get_node(&asker) {
            Some(member) => self.witness.judge(standing, format_args!("manager {member}")),
            None => self.witness.judge(standing, "another manager"),
        }
    }

    fn check(&self, to: u64) -> Result<(), ServeError> {
        if to == self.member { Ok(()) } else { Err(ServeError::OtherMember) }
    }
}

/// How many of `entries` fit on a disk with `free` bytes together.
fn fitting(mut free: u64, entries: &[Entry]) -> usize {
    let entry_fits = |entry: &&Entry| {
        let proposals = match &entry.payload {
            EntryPayload::Normal(Batch(proposals)) => proposals.as_slice(),
            EntryPayload::Blank | EntryPayload::Membership(_) => &[],
        };
        // What raft itself writes is like what shrinks the state.
        let all_fit = fits(free, &[]) && proposals.iter().all(|proposal| fits(free, &proposal.ops));
        free = free.saturating_sub(proposals.iter().map(|proposal| space(&proposal.ops)).sum());
        all_fit
    };
    entries.iter().take_while(entry_fits).count()
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;
    use secretd_core::time::Timestamp;

    use super::*;
    use crate::fixture::{clock, create_secret, directory, init, sealer, secret_id};
    use crate::op::{Op, Proposal};
    use crate::peers::NoPeers;
    use crate::raft::config::LogId;
    use crate::store::Store;

    #[tokio::test]
    async fn what_is_meant_for_another_member_condemns_nobody() {
        let (_guard, path) = directory();
        let store = Store::open(&path, sealer(), clock(), Arc::new(NoPeers)).await.unwrap();
        store.propose(vec![init()]).await.unwrap();
        let server = store.replica().unwrap().server();
        let to = server.member + 1;
        let known = Some(v1::StorePosition { run: 7, commits: 1_000_000 });
        let standing = Some(v1::Standing { member: 9, own: known, known, ..v1::Standing::default() });

        let header = v1::SnapshotHeader { to, standing, ..v1::SnapshotHeader::default() };
        let (sender, chunks) = mpsc::channel(1);
        sender.send(v1::SnapshotChunk { chunk: Some(Chunk::Header(header)) }).await.unwrap();
        let snapshot = server.install_snapshot(chunks).await.unwrap_err();
        let append = v1::AppendRequest { to, standing, ..v1::AppendRequest::default() };
        let append = server.append(append).await.unwrap_err();
        let vote = v1::VoteRequest { to, standing, ..v1::VoteRequest::default() };
        let vote = server.vote(vote).await.unwrap_err();
        server.look(to, standing);

        assert!(matches!(snapshot, ServeError::Receive(ReceiveError::OtherMember)), "{snapshot:?}");
        assert!(matches!((&append, &vote), (ServeError::OtherMember, ServeError::OtherMember)), "{append:?} {vote:?}");
        assert_eq!(*server.witness.rolled_back().borrow(), None);
        store.propose(vec![create_secret(1, "after", 50)]).await.unwrap();
    }

    #[test]
    fn entries_are_taken_as_far_as_they_fit_on_the_disk_together() {
        const MIB: u64 = 1024 * 1024;
        let entry = |ops: Vec<Op>| Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), 1),
            payload: EntryPayload::Normal(Batch(Arc::new(vec![Proposal { at: Timestamp(0), ops }]))),
        };
        let blank = || Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), 1), payload: EntryPayload::Blank };
        let large = || entry(vec![create_secret(1, "a", 500_000)]);
        let remove = || entry(vec![Op::RemoveSecret { id: secret_id(1) }]);
        for (free, entries, expected) in [
            (100 * MIB, vec![large(), large(), large()], 3),
            (RESERVE_BYTES + 2_500_000, vec![large(), large(), large()], 2),
            (RESERVE_BYTES, vec![large(), remove()], 0),
            (2 * MIB, vec![remove(), blank(), large()], 2),
            (MIB - 1, vec![remove()], 0),
            (MIB - 1, vec![blank()], 0),
            (0, vec![], 0),
        ] {
            assert_eq!(fitting(free, &entries), expected, "{free} free, {} entries", entries.len());
        }
    }
}
