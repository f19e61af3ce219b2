//! The lab: real nodes on this machine, for tests that drive the real binaries.
//!
//! Reading order: [`sandbox`] (namespaces in which everything of a node lives and dies), [`node`] (one secretd with
//! directories of its own), [`lab`] (several of them on one network), [`command`] (`sctl` as a user types it), [`laptop`] (and from afar),
//! [`client`] (the API without `sctl`), [`rootfs`] (small images), [`secret_fs`] (what it holds), [`campaign`] (chance, and how often),
//! [`inject`] (system calls that fail), [`history`] (clients that write down what they see), [`linear`] (whether that could
//! have happened), [`peer`] (what is said instead of Docker Swarm's errors).
//!
//! Everything needs root. A test that cannot have it fails, and says why.

pub mod campaign;
pub mod client;
pub mod command;
pub mod history;
pub mod inject;
pub mod lab;
pub mod laptop;
pub mod linear;
pub mod machine;
pub mod node;
pub mod oci;
pub mod peer;
pub mod rootfs;
pub mod sandbox;
pub mod secret_fs;
pub mod stranger;
