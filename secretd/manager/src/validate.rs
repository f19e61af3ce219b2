//! What a request may ask for. Pure: an error says which rule is broken, in Docker's words where Docker has the rule, and
//! names the flag that a user gave.

pub(crate) mod container;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod log;
pub(crate) mod mount;
pub(crate) mod payload;
pub(crate) mod resource;
pub(crate) mod secret;
pub(crate) mod service;
