//! What a dispatcher assigns, parsed once where it comes in.

use secretd_core::service::SecretGrant;
use secretd_core::task::Task;
use secretd_core::wire::WireError;
use secretd_proto::id::{ClusterId, SecretId, TaskId};
use secretd_proto::name::SecretName;
use secretd_proto::v1;
use secretd_proto::v1::assignment_change::{Action, Item};

/// One change of what this node is to do.
#[derive(Debug)]
pub(crate) enum Change {
    GiveSecret(SecretVersion, SecretPayload),
    TakeSecret(SecretVersion),
    GiveGrant(TaskId, GrantTold),
    TakeGrant(TaskId, SecretId, String),
    GiveTask(Box<Task>),
    TakeTask(TaskId),
}

/// Which payload.
pub(crate) type SecretVersion = (SecretId, u64);

/// A sealed payload, as every grant of it needs it.
#[derive(Debug)]
pub(crate) struct SecretPayload {
    pub(crate) name: SecretName,
    pub(crate) length: u32,
    pub(crate) ciphertext: Vec<u8>,
}

/// What lets one task read one version at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantTold {
    pub(crate) cluster: ClusterId,
    pub(crate) secret: SecretId,
    pub(crate) version: u64,
    pub(crate) target: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) epoch: u64,
    pub(crate) wrapped_dek: Vec<u8>,
}

impl GrantTold {
    /// Whether it gives what one of these asks for.
    pub(crate) fn is_for_one_of(&self, secrets: &[SecretGrant]) -> bool {
        secrets.iter().any(|wanted| self.is_for(wanted))
    }

    /// Whether it gives what this asks for.
    pub(crate) fn is_for(&self, wanted: &SecretGrant) -> bool {
        self.secret == wanted.secret && self.target == wanted.target
    }
}

/// The changes of a message, in its order.
pub(crate) fn parse(changes: Vec<v1::AssignmentChange>) -> Result<Vec<Change>, WireError> {
    changes.into_iter().map(change).collect()
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(field: &'static str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|error| WireError::new(field, error))
}

fn change(change: v1::AssignmentChange) -> Result<Change, WireError> {
    let gives = match Action::try_from(change.action) {
        Ok(Action::Update) => true,
        Ok(Action::Remove) => false,
        Err(_) => return Err(WireError::new("action", "is not known to this release")),
    };
    match change.item.ok_or_else(|| WireError::new("item", "is missing"))? {
        Item::Secret(secret) => {
            let version = (id("secret_id", &secret.secret_id)?, secret.secret_version);
            if !gives {
                return Ok(Change::TakeSecret(version));
            }
            let name = id("name", &secret.name)?;
            Ok(Change::GiveSecret(
                version,
                SecretPayload { name, length: secret.length, ciphertext: secret.ciphertext },
            ))
        }
        Item::Grant(grant) => {
            let (task, secret) = (id("task_id", &grant.task_id)?, id("secret_id", &grant.secret_id)?);
            if !gives {
                return Ok(Change::TakeGrant(task, secret, grant.target));
            }
            Ok(Change::GiveGrant(
                task,
                GrantTold {
                    cluster: id("cluster_id", &grant.cluster_id)?,
                    secret,
                    version: grant.secret_version,
                    target: grant.target,
                    uid: grant.uid,
                    gid: grant.gid,
                    mode: grant.mode,
                    epoch: grant.epoch,
                    wrapped_dek: grant.wrapped_dek,
                },
            ))
        }
        Item::Task(task) => {
            let task = task.task.ok_or_else(|| WireError::new("task", "is missing"))?;
            if gives {
                Ok(Change::GiveTask(Box::new(task.try_into()?)))
            } else {
                Ok(Change::TakeTask(id("id", &task.id)?))
            }
        }
    }
}
