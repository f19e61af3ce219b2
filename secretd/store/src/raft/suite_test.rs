//! openraft's own suite for storage, on the real log and state machine.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};

use super::config::{StorageError, TypeConfig};
use super::log::LogStore;
use super::machine::StateMachine;
use super::shared::Shared;
use super::witness::Witness;
use crate::engine::Engine;
use crate::fixture::{directory, sealer};

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let (guard, path) = directory();
        let engine = Arc::new(Engine::open(&path, sealer()).unwrap());
        let witness = Arc::new(Witness::open(&engine, 1).unwrap());
        let shared = Arc::new(Shared::new(engine, Arc::default(), witness));
        let log = LogStore::open(Arc::clone(&shared)).unwrap();
        let machine = StateMachine::open(shared).unwrap();
        Ok((guard, log, machine))
    }
}

#[test]
fn log_and_state_machine_keep_the_contract_of_openraft() {
    Suite::test_all(OnDisk).unwrap();
}
