//! Which payloads are kept of a secret, and where they are.

use std::collections::BTreeMap;

use secretd_core::secret::SecretVersion;

use crate::op::PayloadRef;

/// One payload that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptPayload {
    pub(crate) at: PayloadRef,
    /// Bytes of plaintext.
    pub(crate) length: u32,
}

/// The payloads that are kept of one secret, by version. There is one of most secrets, for which a tree has a node of ten
/// times its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptPayloads(Box<[(SecretVersion, KeptPayload)]>);

impl FromIterator<(SecretVersion, KeptPayload)> for KeptPayloads {
    fn from_iter<I: IntoIterator<Item = (SecretVersion, KeptPayload)>>(payloads: I) -> Self {
        Self(BTreeMap::from_iter(payloads).into_iter().collect())
    }
}

impl KeptPayloads {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SecretVersion, KeptPayload)> {
        self.0.iter().copied()
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = PayloadRef> {
        self.iter().map(|(_, kept)| kept.at)
    }

    pub(crate) fn get(&self, version: SecretVersion) -> Option<KeptPayload> {
        self.iter().find_map(|(known, kept)| (known == version).then_some(kept))
    }

    /// The same, and one more.
    pub(crate) fn with(&self, version: SecretVersion, kept: KeptPayload) -> Self {
        self.iter().chain([(version, kept)]).collect()
    }
}
