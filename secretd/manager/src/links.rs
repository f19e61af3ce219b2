//! The way to other managers, as the control plane needs it: a channel on which both ends have shown their certificates.

use std::fmt;

use secretd_store::Member;
use tonic::transport::Channel;

/// No connection came about, so nothing was sent. Channels of [`Links`] have it among the causes of their errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreached(#[from] pub std::io::Error);

/// Knows how to speak to other managers. Channels connect when they are used, and again when they broke.
pub trait Links: Send + Sync + fmt::Debug {
    /// A channel to a manager.
    fn channel(&self, to: &Member) -> Channel;
}
