//! What clients asked for and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use secretd_core::node::NodeDescription;
use secretd_core::secret::{SealedPayload, SecretSpec, SecretVersion};
use secretd_core::time::Version;
use secretd_proto::id::{NodeId, SecretId};
use secretd_proto::name::SecretName;
use secretd_store::{Op, ProposeError};

use crate::fixture;

/// A change that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// Of the secret with this number.
    Create(u64),
    /// To this version of the secret.
    Update(u64, u64),
    Remove(u64),
    /// Says something new of a node: applied twice, it counts twice.
    Describe,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is not known yet, or never will be.
    Unknown,
    /// It was acknowledged, at this version of the state.
    Acknowledged(Version),
    /// The client was told that nothing has happened.
    Refused,
}

/// One write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) write: Write,
    pub(crate) length: u32,
    pub(crate) ended: Ended,
}

/// All writes and reads of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) attempts: Vec<Attempt>,
    /// The newest state that anybody was told of: what is read from now on has it.
    pub(crate) floor: Version,
    pub(crate) reads: u64,
    next_secret: u64,
}

impl History {
    /// Begins a write; its number is in its payload.
    pub(crate) fn begin(&mut self, write: Write, length: u32) -> usize {
        self.attempts.push(Attempt { write, length, ended: Ended::Unknown });
        self.attempts.len() - 1
    }

    pub(crate) fn new_secret(&mut self) -> u64 {
        self.next_secret += 1;
        self.next_secret
    }

    pub(crate) fn end(&mut self, attempt: usize, outcome: &Result<Version, ProposeError>) {
        let ended = match outcome {
            Ok(version) => Ended::Acknowledged(*version),
            Err(ProposeError::Conflict(_) | ProposeError::NotLeader(_) | ProposeError::Full) => Ended::Refused,
            Err(
                ProposeError::PayloadLength { .. }
                | ProposeError::Storage(_)
                | ProposeError::NoQuorum { .. }
                | ProposeError::Undecided(_)
                | ProposeError::Superseded
                | ProposeError::Closed,
            ) => Ended::Unknown,
        };
        if let Some(attempt) = self.attempts.get_mut(attempt) {
            attempt.ended = ended;
        }
        if let Ended::Acknowledged(version) = ended {
            self.floor = self.floor.max(version);
        }
    }

    /// The newest acknowledged version of each secret that nobody has asked to remove.
    pub(crate) fn acknowledged(&self) -> BTreeMap<u64, u64> {
        let mut kept = BTreeMap::new();
        for attempt in self.attempts.iter().filter(|attempt| matches!(attempt.ended, Ended::Acknowledged(_))) {
            let (secret, version) = match attempt.write {
                Write::Create(secret) => (secret, 1),
                Write::Update(secret, version) => (secret, version),
                Write::Remove(_) | Write::Describe => continue,
            };
            let newest: &mut u64 = kept.entry(secret).or_default();
            *newest = version.max(*newest);
        }
        for attempt in self.attempts.iter().filter(|attempt| attempt.ended != Ended::Refused) {
            if let Write::Remove(secret) = attempt.write {
                kept.remove(&secret);
            }
        }
        kept
    }

    /// The secrets whose removal was acknowledged.
    pub(crate) fn removed(&self) -> BTreeSet<u64> {
        let acknowledged = self.attempts.iter().filter(|attempt| matches!(attempt.ended, Ended::Acknowledged(_)));
        acknowledged
            .filter_map(|attempt| if let Write::Remove(secret) = attempt.write { Some(secret) } else { None })
            .collect()
    }

    /// Whether a payload that was read is one that somebody wrote as this version, and was not told that it was not.
    pub(crate) fn check_payload(&self, secret: u64, version: u64, payload: &SealedPayload) -> Result<(), String> {
        let number = payload.ciphertext.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        let attempt = usize::try_from(number).ok().and_then(|number| self.attempts.get(number));
        let attempt = attempt.ok_or_else(|| format!("secret {secret} has a payload that nobody wrote"))?;
        let written = match attempt.write {
            Write::Create(secret) => Some((secret, 1)),
            Write::Update(secret, version) => Some((secret, version)),
            Write::Remove(_) | Write::Describe => None,
        };
        if written != Some((secret, version)) {
            return Err(format!("version {version} of secret {secret} has the payload of {attempt:?}"));
        }
        if attempt.ended == Ended::Refused {
            return Err(format!("{attempt:?} was refused, and is there"));
        }
        if *payload != fixture::payload(number, attempt.length) {
            return Err(format!("version {version} of secret {secret} has other bytes than were written"));
        }
        Ok(())
    }
}

/// What a store is asked for.
pub(crate) fn op(write: Write, attempt: usize, length: u32, node: NodeId) -> Op {
    let number = u64::try_from(attempt).unwrap();
    let payload = || fixture::payload(number, length).into();
    match write {
        Write::Create(secret) => Op::CreateSecret {
            id: secret_id(secret),
            spec: SecretSpec { name: format!("s{secret}").parse().unwrap(), labels: BTreeMap::new() },
            length,
            payload: payload(),
        },
        Write::Update(secret, version) => Op::UpdateSecret {
            id: secret_id(secret),
            expect: SecretVersion(version - 1),
            labels: None,
            payload: Some((length, payload())),
        },
        Write::Remove(secret) => Op::RemoveSecret { id: secret_id(secret) },
        Write::Describe => Op::SetNodeDescription {
            id: node,
            description: NodeDescription { hostname: format!("host-{number}"), ..NodeDescription::default() },
        },
    }
}

pub(crate) fn secret_id(secret: u64) -> SecretId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&secret.to_be_bytes());
    SecretId::from_random(bytes)
}

/// Whether a secret is one that clients make. Operators make others.
pub(crate) fn is_clients(name: &SecretName) -> bool {
    name.as_str().strip_prefix('s').is_some_and(|number| number.parse::<u64>().is_ok())
}

pub(crate) fn secret_number(id: &SecretId) -> u64 {
    id.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
