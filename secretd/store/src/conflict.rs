//! Why an operation is refused: the state is not what the proposer believed.

use secretd_core::secret::SecretVersion;
use secretd_core::task::{Regression, TaskState};
use secretd_core::time::Version;
use secretd_proto::id::{NodeId, SecretId, ServiceId, TaskId};
use secretd_proto::name::{SecretName, ServiceName};

use crate::cluster::JoinSecretRefusal;

/// A kind of object, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A secret.
    Secret,
    /// A service.
    Service,
    /// A task.
    Task,
    /// A node.
    Node,
    /// The cluster itself.
    Cluster,
    /// An operator's certificate.
    Operator,
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::Service => "service",
            Self::Task => "task",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Operator => "operator's certificate",
        })
    }
}

/// A precondition that does not hold. Nothing of the proposal was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// There is a cluster already.
    #[error("this node is part of a cluster already")]
    AlreadyInitialized,
    /// There is no cluster yet.
    #[error("this node is part of no cluster yet: run `sctl cluster init`")]
    NotInitialized,
    /// The name is taken.
    #[error("a {kind} named {name} exists already")]
    NameTaken {
        /// Secret or service.
        kind: ObjectKind,
        /// The taken name.
        name: String,
    },
    /// The id is taken.
    #[error("a {kind} with the id {id} exists already")]
    IdTaken {
        /// Of what kind.
        kind: ObjectKind,
        /// The taken id.
        id: String,
    },
    /// There is no such object.
    #[error("{kind} {id} does not exist")]
    NotFound {
        /// Of what kind.
        kind: ObjectKind,
        /// Its id.
        id: String,
    },
    /// A service grants a secret that does not exist.
    #[error("secret {name} does not exist")]
    GrantedSecretMissing {
        /// The granted id.
        secret: SecretId,
        /// Its name in the grant.
        name: SecretName,
    },
    /// A service pins a version of a secret that is not kept.
    #[error("version {} of secret {name} does not exist", version.0)]
    PinnedVersionMissing {
        /// The granted secret.
        name: SecretName,
        /// The pinned version.
        version: SecretVersion,
    },
    /// The service has changed since the proposer read it.
    #[error("service {id} has changed since it was read: read it again and repeat the update")]
    OutOfSequence {
        /// Which.
        id: ServiceId,
        /// What the proposer read.
        expected: Version,
        /// What it is.
        actual: Version,
    },
    /// The secret has changed since the proposer read it.
    #[error("secret {id} is at version {}, not {}: read it again and repeat the update", actual.0, expected.0)]
    SecretOutOfSequence {
        /// Which.
        id: SecretId,
        /// What the proposer read.
        expected: SecretVersion,
        /// What it is.
        actual: SecretVersion,
    },
    /// Services use the secret.
    #[error("secret {name} is in use by: {}", list(services))]
    SecretInUse {
        /// The secret.
        name: SecretName,
        /// Which services, sorted.
        services: Vec<ServiceName>,
    },
    /// A service keeps its name for life.
    #[error("service {name} cannot be renamed")]
    NameChanged {
        /// Its name.
        name: ServiceName,
    },
    /// A task's observed or desired state does not go back.
    #[error("task {id} does not go back from {:?} to {:?}", regression.from, regression.to)]
    TaskRegression {
        /// Which.
        id: TaskId,
        /// From where to where.
        regression: Regression,
    },
    /// The task is somewhere else, or nowhere yet.
    #[error("task {id} is not at node {}", node.map_or_else(|| "(none)".to_owned(), |node| node.to_string()))]
    NotAtNode {
        /// Which.
        id: TaskId,
        /// Who reported.
        node: Option<NodeId>,
    },
    /// The join token does not count.
    #[error("the join token is refused: {0}")]
    JoinToken(JoinSecretRefusal),
    /// The cluster's record or a node has changed since the proposer read it.
    #[error("{kind} has changed since it was read: repeat the command")]
    Changed {
        /// Cluster or node.
        kind: ObjectKind,
    },
    /// No further certificate of an operator is kept.
    #[error(
        "there are {most} certificates of operators already: give them less time (--expiry), so that they are forgotten"
    )]
    TooManyOperators {
        /// So many.
        most: usize,
    },
    /// The task has a node, or has ended.
    #[error("task {id} cannot be assigned: it is {state:?} already")]
    NotAssignable {
        /// Which.
        id: TaskId,
        /// Where it is.
        state: TaskState,
    },
}

fn list(services: &[ServiceName]) -> String {
    services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ")
}
