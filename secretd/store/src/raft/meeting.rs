//! Requests as [`super::witness`] wants them: with what each manager knows of the other beside them.

use secretd_proto::v1;
use secretd_proto::v1::standing::Verdict;

use super::network::{Network, deliver, without_entries};
use crate::peers::{Member, PeerError};

impl Network {
    /// Sends entries, or a sign of life, to who has been met: who is not known yet is shown to before anything large is sent.
    pub(super) async fn append(
        &self,
        target: u64,
        member: &Member,
        request: v1::AppendRequest,
    ) -> Result<v1::AppendResponse, PeerError> {
        if !self.witness.has_met(target) {
            self.append_to_known(target, member, without_entries(&request)).await?;
        }
        self.append_to_known(target, member, request).await
    }

    async fn append_to_known(
        &self,
        target: u64,
        member: &Member,
        request: v1::AppendRequest,
    ) -> Result<v1::AppendResponse, PeerError> {
        let witnessed = if request.entries.is_empty() { self.witness.tell() } else { Vec::new() };
        let request = v1::AppendRequest { standing: Some(self.witness.standing(target)), witnessed, ..request };
        let answer = deliver(&*self.peers, member, request).await?;
        self.met(target, member, answer.standing)?;
        Ok(answer)
    }

    pub(super) async fn vote(
        &self,
        target: u64,
        member: &Member,
        request: v1::VoteRequest,
    ) -> Result<v1::VoteResponse, PeerError> {
        let ask = || {
            let request = v1::VoteRequest { standing: Some(self.witness.standing(target)), ..request };
            self.peers.vote(member, request)
        };
        let mut answer = ask().await?;
        if self.witness.answered(answer.standing, member) == Ok(Verdict::Stranger) {
            answer = ask().await?;
        }
        self.met(target, member, answer.standing)?;
        Ok(answer)
    }

    /// An answer counts when neither store went back.
    pub(super) fn met(&self, target: u64, member: &Member, standing: Option<v1::Standing>) -> Result<(), PeerError> {
        let verdict = self.witness.answered(standing, member).map_err(|own| PeerError(own.to_string()))?;
        match verdict {
            Verdict::Served => {
                self.reach.answered(target);
                Ok(())
            }
            Verdict::Stranger => Err(PeerError(format!("manager {member} has asked who this one is"))),
            Verdict::RolledBack => {
                if self.reach.is_first_refusal(target) {
                    tracing::error!(
                        "manager {member} takes part no more: its data directory was rolled back; demote it and promote it again, which makes its store anew"
                    );
                }
                Err(PeerError(format!("the data directory of manager {member} was rolled back")))
            }
        }
    }
}
