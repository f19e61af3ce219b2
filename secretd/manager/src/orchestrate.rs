//! Keeps each service's tasks as its specification wants them.
//!
//! Reading order: [`slot`] (what is in one place of a service), [`restart`] (whether an ended task is followed by a new
//! one), [`scale`] (how many places) and [`cover`] (on which nodes a global service has them), [`update`] (replacing tasks of an older specification), [`reap`] (history), and
//! [`plan`], which puts them together for one service. All of them are pure; [`crate::reconcile`] is the shell.

pub(crate) mod cover;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod reap;
pub(crate) mod restart;
pub(crate) mod scale;
pub(crate) mod slot;
pub(crate) mod update;
