//! Puts the manager together and watches over its loops.

/// Why a loop of the manager ended. None may, while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The store is closed.
    #[error("the store is closed")]
    StoreClosed,
}
