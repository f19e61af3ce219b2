//! The agent through its public face: a manager that a test plays, over a connection in memory, and fakes at the seams.
//! Time is paused: it goes on by itself when everything waits.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod adoption;
mod harness;
mod images;
mod law;
mod lifecycle;
mod secret;
mod volumes;
mod work;
