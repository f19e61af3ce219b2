//! Operations on operators' certificates.

use super::Transaction;
use crate::cluster::{ClusterRecord, Operator};
use crate::conflict::{Conflict, ObjectKind};

/// They are part of one record, which must not grow without end. Nothing is forgotten before: a clock that is wrong for a
/// moment must not make certificates unknown.
const MOST: usize = 1_000;

impl Transaction {
    pub(super) fn put_operator(&mut self, operator: &Operator) -> Result<(), Conflict> {
        let old = self.state.cluster.clone().ok_or(Conflict::NotInitialized)?;
        if old.operators.iter().any(|known| known.serial == operator.serial) {
            return Err(Conflict::IdTaken { kind: ObjectKind::Operator, id: operator.serial.clone() });
        }
        let mut operators = old.operators.clone();
        if operators.len() >= MOST {
            operators.retain(|known| known.expires_at >= self.at);
        }
        if operators.len() >= MOST {
            return Err(Conflict::TooManyOperators { most: MOST });
        }
        operators.push(operator.clone());
        self.replace_cluster(&old, &ClusterRecord { operators, ..old.clone() });
        Ok(())
    }

    pub(super) fn revoke_operators(&mut self, serials: &[String]) -> Result<(), Conflict> {
        let old = self.state.cluster.clone().ok_or(Conflict::NotInitialized)?;
        let mut operators = old.operators.clone();
        for serial in serials {
            let known = operators.iter_mut().find(|known| known.serial == *serial);
            let known = known.ok_or_else(|| Conflict::NotFound { kind: ObjectKind::Operator, id: serial.clone() })?;
            known.revoked_at.get_or_insert(self.at);
        }
        if operators != old.operators {
            self.replace_cluster(&old, &ClusterRecord { operators, ..old.clone() });
        }
        Ok(())
    }
}
