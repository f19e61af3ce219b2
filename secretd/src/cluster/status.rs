//! What the node is at the moment, for `sctl info` and for whoever waits for it to be something else.

use std::time::Duration;

use secretd_manager::Counts;
use secretd_proto::v1;
use secretd_store::{Replica, Store};
use tokio::time::timeout;

use super::membership::Membership;

/// Docker's words for the state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Part of no cluster.
    Inactive,
    /// It has not found a manager yet, or its manager does not take part yet.
    Pending,
    /// Part of a cluster.
    Active,
    /// It waits for the unlock key, or for its passphrase.
    Locked,
    /// It is not what it is to be, and somebody has to do something.
    Error,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Locked => "locked",
            Self::Error => "error",
        }
    }
}

/// What the node is.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    pub(crate) membership: Option<Membership>,
    /// Of a manager that takes part.
    pub(crate) store: Option<Store>,
    /// Why it is not active.
    pub(crate) error: String,
    /// What came of the last attempt to change its role or its certificate.
    pub(crate) hindrance: String,
}

impl Status {
    pub(crate) fn inactive() -> Self {
        let (error, hindrance) = (String::new(), String::new());
        Self { phase: Phase::Inactive, membership: None, store: None, error, hindrance }
    }

    /// A node that is to be a manager and has none yet, though its agent has its session.
    fn is_no_manager_yet(&self) -> bool {
        let is_to_be = self.membership.as_ref().is_some_and(|membership| membership.manager);
        self.phase == Phase::Active && is_to_be && self.store.is_none()
    }

    /// The part of `sctl info` that is about the cluster.
    pub(crate) fn to_info(&self) -> v1::GetInfoResponse {
        let counts = self.store.as_ref().map(|store| Counts::of(&store.view())).unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (phase, error) = match self.is_no_manager_yet() {
            true => (Phase::Pending, &self.hindrance),
            false => (self.phase, &self.error),
        };
        let mut info = v1::GetInfoResponse {
            cluster_state: phase.word().to_owned(),
            managers: number(counts.managers),
            nodes: number(counts.nodes),
            services: number(counts.services),
            secrets: number(counts.secrets),
            tasks_running: number(counts.tasks_running),
            error: error.clone(),
            spec: self.store.as_ref().and_then(|store| Some(store.view().cluster()?.spec.clone().into())),
            warnings: self.store.as_ref().map(warnings).unwrap_or_default(),
            ..v1::GetInfoResponse::default()
        };
        if let Some(hindrance) = self.store.as_ref().and_then(hindrance)
            && info.error.is_empty()
        {
            info.error = hindrance;
        }
        if let Some(membership) = &self.membership {
            info.node_id = membership.node.to_string();
            info.cluster_id = membership.cluster.to_string();
            info.manager = membership.manager;
            info.address = membership.address.to_string();
            info.manager_addresses = membership.managers.clone();
        }
        info
    }
}

/// Waits for an election to end, which takes less than a second where a majority is.
pub(crate) async fn after_an_election(store: &Store) {
    /// How long it is waited for.
    const ELECTION: Duration = Duration::from_secs(1);
    let Some(replica) = store.replica() else { return };
    let mut leadership = replica.watch_leadership();
    let elected = async { while leadership.next().await.is_some_and(|now| now.leader.is_none()) {} };
    let _ = timeout(ELECTION, elected).await; // what is known is told all the same
}

/// Why the manager is of no use at the moment: nodes doubt it, nobody leads, or it leads too few.
fn hindrance(store: &Store) -> Option<String> {
    let replica = store.replica()?;
    let lacks_majority = || {
        let voters = replica.members().into_iter().filter(|member| member.voter);
        let (all, lost) =
            voters.fold((0, 0), |(all, lost), member| (all + 1, lost + usize::from(member.reachable == Some(false))));
        let is_so = replica.leadership().leader.is_none() || lost * 2 >= all;
        (is_so && all > 0).then(|| replica.no_quorum().to_string())
    };
    replica.doubted().or_else(lacks_majority)
}

/// What should not stay as it is.
fn warnings(store: &Store) -> Vec<String> {
    let members = store.replica().map(Replica::members).unwrap_or_default();
    match members.iter().filter(|member| member.voter).count() {
        // Docker's words.
        2 => vec![
            "running the cluster in a two-manager configuration: this configuration provides no fault tolerance, and poses a high risk to lose control over the cluster: promote a third node, or demote one of the two"
                .to_owned(),
        ],
        _ => Vec::new(),
    }
}
