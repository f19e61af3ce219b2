//! The node's data key is replaced while everything goes on: a new one seals from now on, what there is is sealed anew in
//! the background, and then the old one is thrown away. A node that ends in between has both keys, and goes on when it
//! starts again.

use std::time::Duration;

use anyhow::Context;
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_sealing::node_keys::Due;
use tokio::task::JoinHandle;

use super::keys::{Keys, seconds};
use super::lifecycle::Lifecycle;
use super::memory::Memory;
use super::refusals;

/// How often it is looked whether a key has sealed enough: a fraction of what is counted in advance can be sealed meanwhile.
pub(super) const LOOK: Duration = Duration::from_secs(30);

/// Records that are being sealed anew: how many there were.
pub(super) type Resealing = JoinHandle<anyhow::Result<u64>>;

impl Lifecycle {
    /// Makes a new data key.
    pub(super) fn replace_data_key(&mut self) -> Result<(), Refusal> {
        let now = seconds(self.node.clock.now());
        let keys = self.open_mut()?;
        if keys.has_older() {
            let message = "records are being sealed anew under a new data key already: see \"sctl node inspect self\"";
            return Err(Refusal::new(Code::InUse, message));
        }
        keys.begin_data_key(now).map_err(|error| refusals::failed(&error.into()))?;
        tracing::info!("a new data key seals this node's records from now on");
        self.reseal();
        Ok(())
    }

    /// Begins to seal anew what is under an older data key, if anything may be.
    pub(super) fn reseal(&mut self) {
        self.tell_kek();
        if !self.keys.open().is_ok_and(|keys| keys.has_older()) || self.resealing.is_some() {
            return;
        }
        let small = self.reseal_small();
        let replica = self.part.as_ref().and_then(|part| part.manager.as_ref()?.store.replica().cloned());
        let is_left = self.data.join("store").exists();
        self.resealing = Some(tokio::spawn(async move {
            small?;
            match replica {
                Some(replica) => Ok(replica.reseal().await?),
                None if is_left => anyhow::bail!("the store is not open"), // its manager takes no part
                None => Ok(0),
            }
        }));
    }

    /// What is not in the store.
    fn reseal_small(&self) -> anyhow::Result<()> {
        if let Some(part) = &self.part {
            self.file()?.save(&part.membership)?;
            let memory = Memory::new(&self.data, self.keys.open()?.sealer());
            memory.keep(&memory.load());
        }
        Ok(())
    }

    /// Everything is sealed anew, or could not be.
    pub(super) fn resealed(&mut self, outcome: anyhow::Result<u64>) {
        self.resealing = None;
        let forgotten = outcome.and_then(|records| {
            let Keys::Open(keys) = &mut self.keys else { return Ok(records) };
            keys.forget_older().context("the older data key cannot be thrown away")?;
            Ok(records)
        });
        match forgotten {
            Ok(records) => {
                tracing::info!(records, "everything is sealed under the new data key, and the old one is gone")
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "not everything is sealed anew yet"),
        }
        self.tell_kek();
    }

    /// Looks whether the data key has to be counted, or replaced; and whether records are left of an older one.
    pub(super) fn look_after_data_key(&mut self) {
        let Ok(keys) = self.open_mut() else { return };
        let done = match keys.due() {
            Due::Nothing => Ok(()),
            Due::Count => keys.count().map_err(|error| refusals::failed(&error.into())),
            Due::Replacement => self.replace_data_key(),
        };
        if let Err(refusal) = done {
            tracing::error!(reason = refusal.message, "the data key cannot be counted or replaced");
        }
        self.reseal();
    }
}

/// Returns with what came of it; never when nothing is being sealed anew. Cancel-safe.
pub(super) async fn finished(resealing: &mut Option<Resealing>) -> anyhow::Result<u64> {
    match resealing {
        Some(resealing) => resealing.await.unwrap_or_else(|error| Err(error.into())),
        None => std::future::pending().await,
    }
}
