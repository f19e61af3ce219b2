//! What this node knows of the cluster's authority, as it changes: which roots count, and whether its own certificate is of
//! the newest one. A node that is told of a new root has its certificate renewed at once.

use secretd_store::Store;
use tokio::sync::watch;

use super::credentials::Own;
use super::lifecycle::Lifecycle;
use super::membership::Membership;

/// What a manager's own state says of the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// See [`Cluster::bundle`](secretd_core::node::Cluster::bundle).
    pub(crate) roots: Vec<Vec<u8>>,
    /// Roots that count for renewals alone: whoever shows a certificate of theirs is let in, and told so.
    pub(crate) retired: Vec<Vec<u8>>,
}

/// Tells what the state says, for as long as the store lives.
pub(crate) async fn watch(store: Store, told: watch::Sender<Option<Known>>) {
    loop {
        let (view, mut changes) = store.view_and_watch();
        let tell = |view: &secretd_store::View| {
            let Some(cluster) = view.cluster() else { return };
            let retired = cluster.retired.iter().map(|retired| retired.root.clone()).collect();
            let now = Some(Known { roots: cluster.bundle(), retired });
            told.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
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

impl Lifecycle {
    /// A manager's own state says something else of the authority.
    pub(super) async fn follow_authority(&mut self) {
        let Some(part) = &mut self.part else { return };
        let Some(manager) = &mut part.manager else { return };
        let Some(known) = manager.authority.borrow_and_update().clone() else { return };
        if part.is_behind() {
            return; // it is told again when the state is another
        }
        if self.adopt(known.roots) {
            self.renew().await;
        }
    }

    /// These roots count from now on: whether the node's certificate is not of the newest root.
    pub(super) fn adopt(&mut self, roots: Vec<Vec<u8>>) -> bool {
        let Some(part) = &self.part else { return false };
        let (present, remembered) = (part.present.get(), part.remembered());
        let changes = roots != part.membership.roots || Own::accepted(&roots, &remembered) != present.roots;
        if roots.is_empty() || !changes {
            return !present.is_of_newest();
        }
        let membership = Membership { roots, ..part.membership.clone() };
        let adopted = self.file().and_then(|file| {
            let own = Own::of(&membership, &remembered, &self.node.clock)?;
            file.save(&membership)?;
            Ok(own)
        });
        let Some(part) = &mut self.part else { return false };
        match adopted {
            Ok(own) => {
                part.mesh.adopt(own);
                part.membership = membership;
            }
            Err(error) => tracing::error!(error = &*error, "the new root certificates cannot be saved"),
        }
        !part.present.get().is_of_newest()
    }
}
