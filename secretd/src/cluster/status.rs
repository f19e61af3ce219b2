//! What the node is at the moment, for `sctl info` and for whoever waits for it to be something else.

use std::time::Duration;

use secretd_manager::Counts;
use secretd_proto::v1;
use secretd_proto::v1::control_client::ControlClient;
use secretd_store::{Replica, Store};
use tokio::time::timeout;
use tonic::transport::Channel;

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
    /// Of a manager that takes part: its store, and the way to its own control plane.
    pub(crate) manager: Option<(Store, Channel)>,
    /// Why it is not active.
    pub(crate) error: String,
    /// What came of the last attempt to change its role or its certificate.
    pub(crate) hindrance: String,
}

impl Status {
    pub(crate) fn inactive() -> Self {
        let (error, hindrance) = (String::new(), String::new());
        Self { phase: Phase::Inactive, membership: None, manager: None, error, hindrance }
    }

    /// A node that is to be a manager and has none yet, though its agent has its session.
    fn is_no_manager_yet(&self) -> bool {
        let is_to_be = self.membership.as_ref().is_some_and(|membership| membership.manager);
        self.phase == Phase::Active && is_to_be && self.manager.is_none()
    }

    /// The part of `sctl info` that is about the cluster.
    pub(crate) fn to_info(&self) -> v1::GetInfoResponse {
        let store = self.manager.as_ref().map(|(store, _)| store);
        let counts = store.map(|store| Counts::of(&store.view())).unwrap_or_default();
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
            spec: store.and_then(|store| Some(store.view().cluster()?.spec.clone().into())),
            warnings: store.map(warnings).unwrap_or_default(),
            ..v1::GetInfoResponse::default()
        };
        if let Some(hindrance) = store.and_then(hindrance)
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

/// Whether this manager knows all that was acknowledged when it was asked: the leader says how far that is, and this one
/// comes as far (a read index: D. Ongaro, "Consensus: Bridging Theory and Practice", 2014, 6.4).
pub(crate) async fn is_newest(store: &Store, control: &Channel) -> bool {
    /// How long that may take: what is known is told all the same.
    const PATIENCE: Duration = Duration::from_secs(2);
    let asked = async {
        let answer = ControlClient::new(control.clone()).get_cluster(v1::GetClusterRequest {}).await.ok()?;
        let newest = answer.into_inner().state_version;
        loop {
            let (view, mut changes) = store.view_and_watch();
            if view.version().0 >= newest {
                return Some(());
            }
            changes.next().await?;
        }
    };
    timeout(PATIENCE, asked).await.is_ok_and(|sure| sure.is_some())
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
