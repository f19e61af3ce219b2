//! The node's keys at rest, locked or open, and what operators do with them.

use std::sync::Arc;

use anyhow::Context;
use secretd_core::time::Timestamp;
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::rekey_request::Source as Wanted;
use secretd_sealing::kek::{KekStatus, Source};
use secretd_sealing::node_keys::{LockedKeys, NodeKeys, NodeKeysError, Opened};
use secretd_sealing::secret::KeyBytes;
use secretd_sealing::unlock_key::UnlockKey;
use secretd_store::Store;
use tokio::sync::watch;

use super::lifecycle::Lifecycle;
use super::refusals;
use crate::credential;

/// The node's keys.
#[derive(Debug)]
pub(crate) enum Keys {
    Open(NodeKeys),
    /// `None` for the moment in which they are being opened.
    Locked(Option<LockedKeys>),
}

impl Keys {
    pub(crate) fn new(opened: Opened) -> Self {
        match opened {
            Opened::Open(keys) => Self::Open(keys),
            Opened::Locked(locked) => Self::Locked(Some(locked)),
        }
    }

    pub(crate) fn open(&self) -> anyhow::Result<&NodeKeys> {
        match self {
            Self::Open(keys) => Ok(keys),
            Self::Locked(_) => anyhow::bail!("the node's data is locked"),
        }
    }
}

impl Lifecycle {
    /// Changes the keys, where waiting for the disk, or for a passphrase to be stretched, holds nobody up.
    pub(super) async fn change_keys(
        &mut self,
        change: impl FnOnce(&mut NodeKeys) -> Result<(), NodeKeysError> + Send + 'static,
    ) -> Result<(), Refusal> {
        if matches!(self.keys, Keys::Locked(_)) {
            return Err(refusals::locked());
        }
        let Keys::Open(mut keys) = std::mem::replace(&mut self.keys, Keys::Locked(None)) else {
            return Err(refusals::locked());
        };
        let changed = tokio::task::spawn_blocking(move || {
            let outcome = change(&mut keys);
            (keys, outcome)
        });
        let (keys, outcome) = changed.await.map_err(|error| refusals::failed(&error.into()))?;
        self.keys = Keys::Open(keys);
        self.tell_kek();
        outcome.map_err(|error| {
            let by_caller = matches!(error, NodeKeysError::Source(_));
            if by_caller { refusals::invalid(error) } else { refusals::failed(&error.into()) }
        })
    }

    pub(super) async fn unlock(&mut self, key: KeyBytes) -> Result<(), Refusal> {
        let Keys::Locked(locked) = &mut self.keys else {
            return Err(match (&self.part, &self.stuck) {
                (Some(_), _) => refusals::not_locked(),
                (None, Some(stuck)) => stuck.clone(),
                (None, None) => refusals::not_part(),
            });
        };
        let Some(locked) = locked.take() else { return Err(refusals::locked()) };
        // A passphrase is stretched for a while.
        let unlocked = tokio::task::spawn_blocking(move || locked.unlock(&key)).await;
        match unlocked.context("opening the keys").map_err(|error| refusals::failed(&error))? {
            Ok(keys) => self.keys = Keys::Open(keys),
            Err((error, locked)) => {
                self.keys = Keys::Locked(Some(locked));
                let message = format!("this node could not be unlocked: {error}");
                return Err(Refusal::new(Code::PermissionDenied, message));
            }
        }
        self.slot.close(refusals::not_in_cluster());
        self.tell_kek();
        self.go_on().await.map_err(|error| self.get_stuck(&error))?;
        // The unlock key may have been changed while this manager was off.
        self.follow_autolock().await;
        Ok(())
    }

    pub(super) async fn rekey(&mut self, request: v1::RekeyRequest) -> Result<KekStatus, Refusal> {
        if let Some(Wanted::DataKey(_)) = request.source {
            self.replace_data_key().await?;
            return Ok(self.keys.open().map_err(|error| refusals::failed(&error))?.status());
        }
        let source = match request.source {
            Some(Wanted::File(_)) => self.without_own(),
            Some(Wanted::Passphrase(passphrase)) => Source::Passphrase(KeyBytes::new(passphrase)),
            Some(Wanted::Credential(_)) => {
                let credential = credential::read().map_err(|error| refusals::failed(&error))?;
                let missing = "systemd has handed over no credential `secretd-kek`: add LoadCredentialEncrypted=secretd-kek:FILE to the unit, and start secretd again";
                Source::Credential(credential.ok_or_else(|| Refusal::new(Code::Unsupported, missing))?)
            }
            Some(Wanted::DataKey(_)) | None => return Err(refusals::invalid("no source is given")),
        };
        self.rewrap(source).await?;
        let keys = self.keys.open().map_err(|error| refusals::failed(&error))?;
        Ok(keys.status())
    }

    /// Brings the keys in line with the cluster's autolock. A node with a source of its own keeps it.
    pub(super) async fn follow_autolock(&mut self) {
        let Ok(keys) = self.keys.open() else { return };
        let (by_file, version) = (keys.is_by_file(), keys.unlock_version());
        if !by_file && version.is_none() {
            return;
        }
        let wanted = self.without_own();
        let changes = match &wanted {
            Source::UnlockKey(_, wanted) => version != Some(*wanted),
            Source::File | Source::Passphrase(_) | Source::Credential(_) => !by_file,
        };
        if changes && let Err(refusal) = self.rewrap(wanted).await {
            tracing::error!(
                reason = refusal.message,
                "wrapping the node's data key as the cluster wants it has failed"
            );
        }
    }

    /// What wraps the data key of a node that has no source of its own.
    fn without_own(&self) -> Source {
        let store = self.part.as_ref().and_then(|part| part.manager.as_ref()).map(|manager| manager.store.clone());
        let record = store.and_then(|store| store.view().cluster_record().cloned());
        let record = record.filter(|record| record.cluster.spec.autolock);
        let key = record.and_then(|record| {
            let key = UnlockKey::from_bytes(record.keys.unlock.as_ref()?.expose())?;
            Some(Source::UnlockKey(key, record.keys.unlock_version))
        });
        key.unwrap_or(Source::File)
    }

    async fn rewrap(&mut self, source: Source) -> Result<(), Refusal> {
        self.change_keys(move |keys| keys.rewrap(&source)).await?;
        tracing::info!(
            source = self.keys.open().map(|keys| keys.status().source).unwrap_or_default(),
            "the node's data key is wrapped anew"
        );
        Ok(())
    }

    /// What the node says of its keys.
    pub(super) fn tell_kek(&self) {
        if let Ok(keys) = self.keys.open() {
            self.node.kek.send_replace(Some(KeyStatus::of(keys)));
        }
    }
}

/// Tells when the cluster's autolock, or its unlock key, is another one.
pub(crate) async fn watch_autolock(store: Store, told: watch::Sender<(bool, u64)>) {
    loop {
        let (view, mut changes) = store.view_and_watch();
        let tell = |view: &secretd_store::View| {
            let Some(record) = view.cluster_record() else { return };
            let now = (record.cluster.spec.autolock, record.keys.unlock_version);
            told.send_if_modified(|known| std::mem::replace(known, now) != now);
        };
        tell(&view);
        while let Some(change) = changes.next().await {
            tell(&change.view);
        }
        if store.is_closed() {
            return;
        }
    }
}

/// For the node's description before its keys are open.
pub(crate) fn status_of(opened: &Opened) -> Option<KeyStatus> {
    match opened {
        Opened::Open(keys) => Some(KeyStatus::of(keys)),
        Opened::Locked(_) => None,
    }
}

/// Clones of the arc are the same sender.
pub(crate) type KekWatch = Arc<watch::Sender<Option<KeyStatus>>>;

/// What a node says of its keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyStatus {
    pub(crate) kek: KekStatus,
    /// In seconds since 1970.
    pub(crate) data_key_made_at: u64,
    /// Whether records are left that are sealed under an older data key.
    pub(crate) is_resealing: bool,
}

impl KeyStatus {
    fn of(keys: &NodeKeys) -> Self {
        Self { kek: keys.status(), data_key_made_at: keys.data_key_made_at(), is_resealing: keys.has_older() }
    }
}

/// The wall clock, as keys are dated.
pub(crate) fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.0 / 1_000_000_000).unwrap_or_default()
}
