//! What is written is read back the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::{CommittedLeaderId, EntryPayload};
use proptest::prelude::*;
use secretd_core::time::{Timestamp, Version};

use super::*;
use crate::apply::tests::any_history;
use crate::fixture::{init, node_id, payload};
use crate::op::{Op, Payload, Proposal, number_payloads};
use crate::peers::Member;
use crate::raft::config::{Batch, Entry, LogId, StoredMembership, Vote};

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(3, 4), index)
}

/// An operation as it is read back: its payload's bytes are elsewhere.
fn lean(mut op: Op) -> Op {
    if let Some(payload) = op.payload_mut() {
        *payload = Payload::stored(payload.slot());
    }
    op
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn log_entries_come_back_without_their_payloads(history in any_history()) {
        let mut proposals: Vec<_> =
            (0..).zip(history).map(|(at, ops)| Proposal { at: Timestamp(at), ops }).collect();
        number_payloads(&mut proposals);
        let expect: Vec<_> = proposals.iter().map(|proposal| Proposal {
            at: proposal.at,
            ops: proposal.ops.iter().cloned().map(lean).collect(),
        }).collect();
        let entry = Entry { log_id: log_id(7), payload: EntryPayload::Normal(Batch(Arc::new(proposals))) };

        let back = decode_entry(&encode_entry(&entry)).unwrap();

        prop_assert_eq!(back.log_id, log_id(7));
        prop_assert_eq!(format!("{:?}", back.payload), format!("{:?}", EntryPayload::<crate::raft::config::TypeConfig>::Normal(Batch(Arc::new(expect)))));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
        let _ = decode_entry(&bytes);
        let _ = decode_record(&bytes);
        let _ = decode_applied(&bytes);
        let _ = decode_vote(&bytes);
        let _ = decode_payload(Zeroizing::new(bytes));
    }
}

#[test]
fn rafts_own_records_come_back_the_same() {
    for vote in [Vote::new(0, 0), Vote::new(5, 6), Vote::new_committed(5, 6)] {
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
    }
    for id in [LogId::new(CommittedLeaderId::new(0, 0), 0), log_id(9)] {
        assert_eq!(decode_log_id(&encode_log_id(id)).unwrap(), id);
    }
    let nodes = BTreeMap::from(
        [1u64, 2, 3, 4].map(|id| (id, Member { node: node_id(7), address: format!("10.0.0.{id}:7377") })),
    );
    let configs = vec![[1, 2].into(), [2, 3].into()];
    let membership = StoredMembership::new(Some(log_id(2)), openraft::Membership::new(configs, nodes));
    let applied = Applied { log_id: Some(log_id(8)), membership, version: Version(5) };
    let back = decode_applied(&encode_applied(&applied)).unwrap();
    assert_eq!((back.log_id, back.membership, back.version), (applied.log_id, applied.membership, applied.version));
}

#[test]
fn payloads_and_keys_come_back_the_same() {
    assert_eq!(decode_payload(Zeroizing::new(encode_payload(&payload(300, 5)))).unwrap(), payload(300, 5));
    let entry = Entry {
        log_id: log_id(1),
        payload: EntryPayload::Normal(Batch(Arc::new(vec![Proposal { at: Timestamp(1), ops: vec![init()] }]))),
    };
    let back = decode_entry(&encode_entry(&entry)).unwrap();
    let EntryPayload::Normal(Batch(proposals)) = back.payload else { panic!("{back:?}") };
    let Op::InitCluster { record, .. } = &proposals[0].ops[0] else { panic!("{proposals:?}") };
    assert_eq!(*record.keys.sealing.expose_bytes(), [9; 32]);
}
