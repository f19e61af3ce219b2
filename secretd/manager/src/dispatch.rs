//! dispatcher
pub(crate) mod assignment_set;
pub(crate) mod broker;
pub(crate) mod grant;
pub(crate) mod session;
