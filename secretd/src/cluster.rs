//! This node's part in a cluster: how it founds one, joins one, is promoted and demoted in it, and leaves it.
//!
//! Reading order: [`local`] (what operators ask of the node), [`lifecycle`] (the one place that changes what the node is),
//! with [`founding`], [`joining`], [`leaving`], [`alone`], [`keys`], [`data_key`] and [`authority`]; [`part`] (what it
//! has while it is part of one); [`rollback`] (a store that went back); [`membership`] and [`memory`] (what is remembered), [`manager_part`] (what runs on a
//! manager); [`credentials`] with [`due`], [`links`] with [`peers`], [`listener`] and [`pipe`] (connections); [`managers`] (the
//! agent's way to them); [`slot`] with [`refusals`] (the control API of a node that may be no manager).

mod address;
mod alone;
mod authority;
mod credentials;
mod data_key;
mod due;
mod founding;
mod joining;
pub(crate) mod keys;
mod leaving;
pub(crate) mod lifecycle;
mod links;
mod listener;
pub(crate) mod local;
mod manager_part;
mod managers;
mod membership;
mod memory;
mod part;
mod peers;
mod pipe;
pub(crate) mod refusals;
mod renewal;
mod restoring;
mod rollback;
pub(crate) mod slot;
pub(crate) mod status;
