//! What becomes of a node whose store, or whose manager's store, was put back to an earlier copy.
//!
//! The control plane of such a manager ends, and its containers go on: its agent is a node of the other managers. It says
//! what is wrong until it is demoted, leaves, or goes on alone.

use secretd_store::RolledBack;

use super::lifecycle::Lifecycle;
use super::refusals;

impl Lifecycle {
    /// Other managers have found out that this one's store is older than it was.
    pub(super) async fn take_no_part(&mut self, fault: RolledBack) {
        let Some(part) = &mut self.part else { return };
        part.managers.set_own(None);
        let manager = part.manager.take();
        part.fault = Some(fault.clone());
        self.tell_fault(&fault);
        if let Some(manager) = manager {
            manager.stop().await;
        }
    }

    pub(super) fn tell_fault(&self, fault: &RolledBack) {
        tracing::error!("{fault}");
        self.slot.close(refusals::rolled_back(fault));
        self.node.fault.send_replace(fault.to_string());
    }

    /// The store that went back counts no more: the node is no manager, or is to be one anew.
    pub(super) fn leave_fault(&mut self) -> anyhow::Result<()> {
        let Some(part) = &mut self.part else { return Ok(()) };
        part.fault = None;
        self.slot.close(refusals::worker());
        self.node.fault.send_replace(String::new());
        self.wipe_store()
    }

    /// A manager is refused. It is told once for each reason.
    pub(super) fn doubt(&mut self, why: String) {
        let Some(part) = &mut self.part else { return };
        if part.doubt.as_ref() != Some(&why) {
            tracing::error!("a manager is refused: {why}");
            part.doubt = Some(why);
        }
    }
}
