//! The way to the managers, as the agent needs it.

use std::fmt;

use futures::future::BoxFuture;
use secretd_proto::v1;
use tokio::sync::watch;
use tonic::transport::Channel;

/// Knows where managers are.
pub trait Managers: Send + Sync + fmt::Debug {
    /// A channel to the manager at `leader`, if one has named it, else to the one that probably leads, else to any: another
    /// one each time. Channels connect when they are used.
    fn channel(&self, leader: Option<&str>) -> Channel;

    /// Returns when another manager leads than when a channel was asked for last, as far as this node hears of that by itself.
    fn led_anew(&self) -> BoxFuture<'_, ()>;

    /// Told when a session begins, and whenever it changes: what this node is to be, where managers are, and which root
    /// certificates count.
    fn told(&self, membership: v1::Membership);

    /// Counts the certificates that this node has had. With another one a session begins anew, so that managers see it.
    fn certificates(&self) -> watch::Receiver<u64>;

    /// Told when managers do not take this node's certificate any more: its root was replaced, or the node was removed. Who
    /// asks for another certificate then is told which.
    fn outdated(&self);

    /// What this node has kept of the cluster.
    fn recall(&self) -> v1::StoredSeen;

    /// Keeps it from now on, across restarts. It may be behind after a lost power supply.
    fn keep(&self, seen: &v1::StoredSeen);

    /// Told when a manager is refused, because this node has seen a later state.
    fn doubt(&self, why: &str);
}
