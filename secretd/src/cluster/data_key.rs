//! The node's data key is replaced while everything goes on: a new one seals from now on, what there is is sealed anew in
//! the background, and then the old one is thrown away. A node that ends in between has both keys, and goes on when it
//! starts again.

use std::time::Duration;

use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_sealing::node_keys::{Due, NodeKeys};
use tokio::task::JoinHandle;

use super::keys::seconds;
use super::lifecycle::Lifecycle;
use super::memory::Memory;

/// How often it is looked whether a key has sealed enough: a fraction of what is counted in advance can be sealed meanwhile.
pub(super) const LOOK: Duration = Duration::from_secs(30);

/// Records that are being sealed anew: how many there were.
pub(super) type Resealing = JoinHandle<anyhow::Result<u64>>;

impl Lifecycle {
    /// Makes a new data key.
    pub(super) async fn replace_data_key(&mut self) -> Result<(), Refusal> {
        let now = seconds(self.node.clock.now());
        if self.keys.open().is_ok_and(|keys| keys.has_older()) {
            let message = "records are being sealed anew under a new data key already: see \"sctl node inspect self\"";
            return Err(Refusal::new(Code::InUse, message));
        }
        self.change_keys(move |keys| keys.begin_data_key(now)).await?;
        self.not_resealed = None;
        tracing::info!("a new data key seals this node's records from now on");
        self.reseal().await;
        Ok(())
    }

    /// Begins to seal anew what is under an older data key, if anything may be.
    pub(super) async fn reseal(&mut self) {
        self.tell_kek();
        if !self.keys.open().is_ok_and(|keys| keys.has_older()) || self.resealing.is_some() {
            return;
        }
        let replica = self.part.as_ref().and_then(|part| part.manager.as_ref()?.store.replica().cloned());
        let is_left = self.data.join("store").exists();
        let small = match &replica {
            None if is_left => Err(anyhow::anyhow!("the store is not open")), // its manager takes no part
            Some(_) | None => self.reseal_small().await,
        };
        self.resealing = Some(tokio::spawn(async move {
            small?;
            match replica {
                Some(replica) => Ok(replica.reseal().await?),
                None => Ok(0),
            }
        }));
    }

    /// What is not in the store, also of a node that could not go on as what it was. No change of the membership comes in
    /// between: this waits.
    async fn reseal_small(&self) -> anyhow::Result<()> {
        let file = self.file()?;
        let memory = match &self.part {
            Some(part) => part.managers.memory(),
            None => Memory::new(&self.data, self.keys.open()?.sealer()),
        };
        let resealed = tokio::task::spawn_blocking(move || {
            file.reseal()?;
            memory.reseal()
        });
        resealed.await?
    }

    /// Everything is sealed anew, or could not be. The older data key goes only when all of it is.
    pub(super) async fn resealed(&mut self, outcome: anyhow::Result<u64>) {
        self.resealing = None;
        let failure = match outcome {
            Ok(records) => match self.change_keys(NodeKeys::forget_older).await {
                Ok(()) => {
                    tracing::info!(records, "everything is sealed under the new data key, and the old one is gone");
                    None
                }
                Err(refusal) => Some(format!("the older data key cannot be thrown away: {}", refusal.message)),
            },
            Err(error) => Some(format!("{error:#}")),
        };
        // It is tried again and again, and told once for each reason.
        if let Some(error) = &failure
            && self.not_resealed != failure
        {
            tracing::warn!(error, "not everything is sealed anew yet");
        }
        self.not_resealed = failure;
    }

    /// Looks whether the data key has to be counted, or replaced; and whether records are left of an older one.
    pub(super) async fn look_after_data_key(&mut self) {
        let Ok(keys) = self.keys.open() else { return };
        let done = match keys.due() {
            Due::Nothing => Ok(()),
            Due::Count => self.change_keys(NodeKeys::count).await,
            Due::Replacement => self.replace_data_key().await,
        };
        if let Err(refusal) = done {
            tracing::error!(reason = refusal.message, "the data key cannot be counted or replaced");
        }
        self.reseal().await;
    }
}

/// Returns with what came of it; never when nothing is being sealed anew. Cancel-safe.
pub(super) async fn finished(resealing: &mut Option<Resealing>) -> anyhow::Result<u64> {
    match resealing {
        Some(resealing) => resealing.await.unwrap_or_else(|error| Err(error.into())),
        None => std::future::pending().await,
    }
}
