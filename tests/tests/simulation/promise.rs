//! What members of raft have told each other: it must hold after every crash.

use std::collections::BTreeMap;

use secretd_proto::v1;
use secretd_proto::v1::append_response::Outcome;
use secretd_store::simulation::Voted;

/// The promises of all members.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// The greatest vote that each member has told of.
    votes: BTreeMap<u64, Voted>,
    /// What was broken.
    broken: Vec<String>,
}

impl Promises {
    pub(crate) fn answered_vote(&mut self, member: u64, request: &v1::VoteRequest, answer: &v1::VoteResponse) {
        if let Some(vote) = &answer.vote {
            self.told(member, voted(vote));
        }
        let asked = request.vote.as_ref().map(voted).filter(|_| answer.granted);
        if let Some(granted) = asked {
            self.told(member, granted);
        }
    }

    /// Who takes a leader's entries has given it its vote.
    pub(crate) fn answered_append(&mut self, member: u64, request: &v1::AppendRequest, answer: &v1::AppendResponse) {
        match &answer.outcome {
            Some(Outcome::HigherVote(vote)) => self.told(member, voted(vote)),
            None => {} // nothing was taken: who asks has to look at what is known of it first
            Some(Outcome::Success(_) | Outcome::Partial(_) | Outcome::PartialNone(_) | Outcome::Conflict(_)) => {
                if let Some(vote) = &request.vote {
                    self.told(member, Voted { won: false, ..voted(vote) });
                }
            }
        }
    }

    fn told(&mut self, member: u64, vote: Voted) {
        let greatest = self.votes.entry(member).or_insert(vote);
        *greatest = vote.max(*greatest);
    }

    /// The disk of a member, after a crash, has this vote.
    pub(crate) fn found(&mut self, member: u64, vote: Option<Voted>) {
        let Some(promised) = self.votes.get(&member) else { return };
        let kept = vote.is_some_and(|vote| {
            (vote.term, vote.candidate, vote.won) >= (promised.term, promised.candidate, promised.won)
                || (vote.term, vote.candidate) == (promised.term, promised.candidate)
        });
        if !kept {
            self.broken.push(format!("member {member:016x} told of {promised:?} and has {vote:?} after a crash"));
        }
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.first().map(String::as_str)
    }
}

fn voted(vote: &v1::StoredVote) -> Voted {
    Voted { term: vote.term, candidate: vote.node, won: vote.committed }
}
