//! Domain types of the cluster and the seams at which it meets the world.
//!
//! Reading order: [`time`], [`secret`], [`service`], [`task`], [`node`], [`placement`] (what there is), [`wire`] (how it crosses the
//! wire), [`seam`] (Clock, Runtime, SecretMount, Images), and behind the feature `testing` their fakes.
//!
//! Deliberately absent: IO, and any type that holds a secret's plaintext.

#[cfg(feature = "testing")]
pub mod fake;
pub mod node;
pub mod placement;
pub mod seam;
pub mod secret;
pub mod service;
pub mod task;
pub mod time;
pub mod wire;
