//! Founding a cluster: its keys, its authority, and the records of its first node.

use std::collections::BTreeMap;
use std::time::Duration;

use secretd_ca::authority::ROOT_VALIDITY;
use secretd_ca::{Authority, TokenSecret};
use secretd_core::node::{Availability, ClusterSpec, Node, NodeDescription, NodeState};
use secretd_core::time::{Meta, Timestamp, Version};
use secretd_proto::code::Code;
use secretd_proto::id::{ClusterId, NodeId};
use secretd_sealing::key::PrivateKey;
use secretd_sealing::secret::KeyBytes;
use secretd_store::{ClusterRecord, Founding, Op, Store};

pub use crate::api::unlock_key::shown;
use crate::api::unlock_key::switched;
use crate::refusal::Refusal;

/// A certificate is renewed at half its life at the earliest: below this, nodes would do little else.
const SHORTEST_CERTIFICATE: Duration = Duration::from_secs(10);
/// Below this a busy machine counts as lost.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);
const LONGEST_HEARTBEAT: Duration = Duration::from_hours(1);

/// Refuses settings under which a cluster does not work.
///
/// # Errors
/// Which, and what to give.
pub fn check_spec(spec: &ClusterSpec) -> Result<(), Refusal> {
    if spec.cert_expiry < SHORTEST_CERTIFICATE {
        return Err(Refusal::invalid("minimum certificate expiry time is: 10s (--cert-expiry)"));
    }
    if spec.cert_expiry > ROOT_VALIDITY {
        let hours = ROOT_VALIDITY.as_secs() / 3600;
        let message = format!("maximum certificate expiry time is: {hours}h, a root's own (--cert-expiry)");
        return Err(Refusal::invalid(message));
    }
    if !(SHORTEST_HEARTBEAT..=LONGEST_HEARTBEAT).contains(&spec.heartbeat) {
        return Err(Refusal::invalid("the heartbeat period must be from 100ms to 1h (--dispatcher-heartbeat)"));
    }
    Ok(())
}

/// The first node.
#[derive(Debug)]
pub struct Founder {
    /// Its id.
    pub node: NodeId,
    /// Where other nodes will reach it.
    pub address: String,
    /// What it says of itself.
    pub description: NodeDescription,
    /// Whether it takes tasks.
    pub availability: Availability,
}

/// Founds a cluster in a store that is part of none.
///
/// # Errors
/// When the store is part of one already, or does not take it.
pub async fn found(
    store: &Store,
    cluster: ClusterId,
    authority: &Authority,
    spec: ClusterSpec,
    founder: Founder,
) -> Result<(), Refusal> {
    let random = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, error);
    let join = || TokenSecret::generate().map(|secret| KeyBytes::new(secret.expose().to_vec()));
    let founding = Founding {
        sealing: PrivateKey::generate().map_err(|error| random(&error))?,
        root: authority.certificate().to_vec(),
        authority: KeyBytes::new(authority.expose_key().to_vec()),
        worker: join().map_err(|error| random(&error))?,
        manager: join().map_err(|error| random(&error))?,
    };
    let mut record = ClusterRecord::new(cluster, spec, founding);
    if record.cluster.spec.autolock {
        record.keys = switched(record.keys, true)?;
    }
    let node = new_node(founder.node, founder.address, founder.description, founder.availability, true);
    check_spec(&record.cluster.spec)?;
    store.propose(vec![Op::InitCluster { record, node }]).await?;
    Ok(())
}

/// Makes `founder` the only manager of a cluster that was restored: those that it had are none any more.
///
/// # Errors
/// When the store does not take it.
pub async fn restored(store: &Store, founder: Founder, now: Timestamp) -> Result<(), Refusal> {
    let view = store.view();
    let managers = view.nodes().filter(|node| node.manager);
    let mut ops: Vec<Op> = managers.map(|node| Op::SetNodeRole { id: node.id, manager: false }).collect();
    let node = new_node(founder.node, founder.address, founder.description, founder.availability, true);
    ops.push(Op::PutNode { node });
    ops.extend(new_epoch(store, now));
    store.propose(ops).await?;
    Ok(())
}

/// What tells nodes that the state goes back on purpose.
pub fn new_epoch(store: &Store, now: Timestamp) -> Option<Op> {
    let view = store.view();
    let record = view.cluster_record()?;
    Some(Op::UpdateCluster { expect: record.cluster.meta.version, record: record.in_new_epoch(now) })
}

/// A node that has not connected yet.
pub(crate) fn new_node(
    id: NodeId,
    address: String,
    description: NodeDescription,
    availability: Availability,
    manager: bool,
) -> Node {
    Node {
        id,
        meta: Meta::default(),
        labels: BTreeMap::new(),
        availability,
        manager,
        state: NodeState::Unknown,
        message: "its agent has not connected yet".to_owned(),
        address,
        description,
        spec_version: Version::default(),
        certificate: None,
    }
}
