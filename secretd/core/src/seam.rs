//! The seams: traits at which the cluster meets the world. Each has one production implementation and one fake.

pub mod clock;
pub mod images;
pub mod runtime;
pub mod secret_mount;
pub mod volumes;
