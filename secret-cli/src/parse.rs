//! What users write in flags, as values. Pure; each error says what was expected.

pub(crate) mod availability;
pub(crate) mod csv;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod key_value;
pub(crate) mod mount;
pub(crate) mod number;
pub(crate) mod placement;
pub(crate) mod role;
pub(crate) mod secret;
pub(crate) mod shell_words;
