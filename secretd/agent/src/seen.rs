//! What this node has seen of the cluster, and keeps: so that a manager whose data directory was put back to an earlier copy
//! is refused, and not obeyed.

use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::v1;

use crate::managers::Managers;

/// Managers of which something is kept.
const MANAGERS: usize = 16;

/// A manager's state is older than one that this node has seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Older(String);

/// What this node has seen. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    managers: Arc<dyn Managers>,
    kept: Arc<Mutex<v1::StoredSeen>>,
}

impl Seen {
    pub(crate) fn recall(managers: Arc<dyn Managers>) -> Self {
        let kept = Arc::new(Mutex::new(managers.recall()));
        Self { managers, kept }
    }

    /// How far the stores of managers had come.
    pub(crate) fn stores(&self) -> Vec<v1::StoredWitnessed> {
        self.kept.lock().managers.clone()
    }

    /// Takes in how far the cluster is by a manager's word.
    pub(crate) fn look(&self, position: Option<v1::ClusterPosition>) -> Result<(), Older> {
        let Some(position) = position else { return Ok(()) };
        let mut kept = self.kept.lock();
        let now = judge(&kept, position)?;
        if *kept != now {
            self.managers.keep(&now);
            *kept = now;
        }
        Ok(())
    }
}

/// What is known after a manager has said how far it is.
fn judge(kept: &v1::StoredSeen, position: v1::ClusterPosition) -> Result<v1::StoredSeen, Older> {
    let v1::ClusterPosition { epoch, version, store } = position;
    let known = kept.position.unwrap_or_default();
    if epoch < known.epoch {
        let message = "the manager is one from before the cluster was restored, or went on with another one: run \"sctl cluster leave --force\" on it";
        return Err(Older(message.to_owned()));
    }
    if epoch == known.epoch && version < known.version {
        return Err(Older(format!(
            "the manager's state is at version {version}, and this node has seen version {} of it: was its data directory rolled back? Restore the cluster from a backup, or go on with what the manager has by \"sctl cluster init --force-new-cluster\" on it",
            known.version
        )));
    }
    // Of another epoch nothing is known that counts.
    let mut managers = if epoch == known.epoch { kept.managers.clone() } else { Vec::new() };
    if let Some(store) = store {
        let commits = |of: &v1::StoredWitnessed| of.position.map_or(0, |position| position.commits);
        let old = managers.iter().position(|old| old.member == store.member).map(|at| managers.remove(at));
        managers.push(old.filter(|old| commits(old) > commits(&store)).unwrap_or(store));
        let surplus = managers.len().saturating_sub(MANAGERS);
        managers.drain(..surplus);
    }
    Ok(v1::StoredSeen { position: Some(v1::ClusterPosition { epoch, version, store: None }), managers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, version: u64, member: u64, commits: u64) -> v1::ClusterPosition {
        let position = Some(v1::StorePosition { run: 1, commits });
        v1::ClusterPosition { epoch, version, store: Some(v1::StoredWitnessed { member, position }) }
    }

    #[test]
    fn older_state_is_refused_and_a_new_epoch_begins_anew() {
        let mut kept = v1::StoredSeen::default();
        for (position, managers) in [(at(5, 10, 1, 30), 1), (at(5, 10, 1, 29), 1), (at(5, 11, 2, 3), 2)] {
            kept = judge(&kept, position).unwrap();
            assert_eq!(kept.managers.len(), managers);
        }
        let commits = kept.managers.iter().map(|manager| manager.position.unwrap().commits);
        assert_eq!(commits.collect::<Vec<_>>(), [30, 3], "a message that comes late takes nothing back");

        let older = judge(&kept, at(5, 10, 1, 40)).unwrap_err().to_string();
        assert!(older.contains("is at version 10, and this node has seen version 11"), "{older}");
        let before = judge(&kept, at(4, 99, 1, 40)).unwrap_err().to_string();
        assert!(before.contains("from before the cluster was restored"), "{before}");
        let restored = judge(&kept, at(6, 3, 9, 1)).unwrap();
        assert_eq!((restored.position.unwrap().version, restored.managers.len()), (3, 1));
        assert!(judge(&restored, at(5, 12, 1, 50)).is_err());
    }

    #[test]
    fn of_many_managers_the_last_are_kept() {
        let mut kept = v1::StoredSeen::default();
        for member in 0..40 {
            kept = judge(&kept, at(0, member, member, 1)).unwrap();
        }
        assert_eq!(kept.managers.len(), MANAGERS);
        assert_eq!(kept.managers.last().map(|last| last.member), Some(39));
    }
}
