//! Keeps raft's members what the nodes are to be: who is demoted or removed loses its vote.
//!
//! The other direction, becoming a member, is the new manager's to ask for, once it has a store.

use std::convert::Infallible;
use std::time::Duration;

use secretd_store::{MemberStatus, Store, View};
use tokio::time::Instant;

use crate::manager::Ended;

/// Between attempts while a change of members is not agreed on.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause between attempts to hand the lead over: each of them costs two seconds in which nothing is answered.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs while this manager leads.
pub(crate) async fn keep(store: Store) -> Result<Infallible, Ended> {
    let Some(replica) = store.replica().cloned() else { return std::future::pending().await };
    let (mut pause, mut hands_over_from) = (RETRY, Instant::now());
    loop {
        let (view, mut changes) = store.view_and_watch();
        let mut again = None;
        for status in surplus(&replica.members(), &view) {
            let leads = status.id == replica.member_id();
            if leads && Instant::now() < hands_over_from {
                again = earlier(again, hands_over_from);
                continue;
            }
            let outcome = match leads {
                true => replica.hand_over().await, // the next leader takes this one out
                false => replica.remove_member(status.id).await,
            };
            match outcome {
                Ok(()) if leads => tracing::info!("another manager leads: this one is to be none"),
                Ok(()) => tracing::info!(node = %status.member.node, "the node is no manager any more"),
                Err(error) => {
                    tracing::warn!(node = %status.member.node, %error, "a manager cannot be taken out yet");
                    if leads {
                        pause = LONGEST.min(pause * 2);
                        hands_over_from = Instant::now() + pause;
                    }
                    again = earlier(again, if leads { hands_over_from } else { Instant::now() + RETRY });
                }
            }
        }
        let retry = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
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

fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    one.map_or(other, |one| one.min(other)).into()
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
