//! What can go wrong on the disk, said once for writing, reading and opening.

/// What the disk, or the engine on it, did.
#[derive(Debug, thiserror::Error)]
pub enum StorageFailure {
    /// A system call failed.
    #[error("{step}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A record is not the one that was written there.
    #[error("the record {what} is damaged")]
    Damaged {
        /// Table and key, which tell no name.
        what: String,
    },
    /// Records that belong together do not fit each other.
    #[error("the store is inconsistent: {what}")]
    Inconsistent {
        /// What does not fit.
        what: String,
    },
    /// There is no randomness to seal with.
    #[error("a record could not be sealed")]
    Seal(#[from] secretd_sealing::SealError),
}

impl StorageFailure {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }
}
