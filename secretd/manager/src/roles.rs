//! Keeps raft's members what the nodes are to be: who is demoted or removed loses its vote.
//!
//! The other direction, becoming a member, is the new manager's to ask for, once it has a store.

use std::convert::Infallible;
use std::time::Duration;

use secretd_store::{MemberStatus, Store, View};

use crate::manager::Ended;

/// Between attempts while a change of members is not agreed on.
const RETRY: Duration = Duration::from_secs(1);

/// Runs while this manager leads.
pub(crate) async fn keep(store: Store) -> Result<Infallible, Ended> {
    let Some(replica) = store.replica().cloned() else { return std::future::pending().await };
    loop {
        let (view, mut changes) = store.view_and_watch();
        let mut failed = false;
        for status in surplus(&replica.members(), &view) {
            let outcome = match status.id == replica.member_id() {
                true => replica.hand_over().await.map(|()| "another manager leads, which takes this one out"),
                false => replica.remove_member(status.id).await.map(|()| "the node is no manager any more"),
            };
            match outcome {
                Ok(done) => tracing::info!(node = %status.member.node, "{done}"),
                Err(error) => {
                    tracing::warn!(node = %status.member.node, %error, "a manager cannot be taken out yet");
                    failed = true;
                }
            }
        }
        let retry = async {
            match failed {
                true => tokio::time::sleep(RETRY).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.next() => if change.is_none() && store.is_closed() {
                return Err(Ended::StoreClosed);
            },
            () = retry => {}
        }
    }
}

/// The members whose node is not to be a manager. This one comes last: it leads no more afterwards.
fn surplus(members: &[MemberStatus], view: &View) -> Vec<MemberStatus> {
    if view.cluster().is_none() {
        return Vec::new(); // it is being founded
    }
    let is_manager = |status: &MemberStatus| view.node(&status.member.node).is_some_and(|node| node.manager);
    let mut surplus: Vec<MemberStatus> = members.iter().filter(|status| !is_manager(status)).cloned().collect();
    surplus.sort_by_key(|status| status.leader);
    surplus
}
