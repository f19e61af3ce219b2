//! Fakes of the seams, for tests: they keep everything in memory, fail and take their time as they are told, and record
//! what they were asked for.

pub mod clock;
pub mod images;
pub mod runtime;
pub mod secret_mount;
pub mod volumes;
