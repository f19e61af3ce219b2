//! `sctl cluster`

mod absent;
mod backup;
mod ca;
mod init;
mod join;
mod join_token;
mod leave;
mod restore;
mod settings;
mod unlock;
mod unlock_key;
mod update;

use clap::Subcommand;

use super::Context;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Write the whole state of the cluster to one sealed file, while everything goes on
    Backup(backup::Backup),
    /// Show or replace the root certificate
    Ca(ca::Ca),
    /// Make this node the first manager of a new cluster
    Init(init::Init),
    /// Make this node part of a cluster
    Join(join::Join),
    /// Show or change the token with which nodes join
    JoinToken(join_token::JoinToken),
    /// Take this node out of its cluster: its tasks end, and nothing of the cluster stays on it
    Leave(leave::Leave),
    /// Make this node the first manager of a cluster as a backup has it
    Restore(restore::Restore),
    /// Open this node's data with the unlock key, or with its passphrase
    Unlock(unlock::Unlock),
    /// Show or change the key that managers need when they start
    UnlockKey(unlock_key::UnlockKey),
    /// Change settings of the cluster
    Update(update::Update),
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Backup(args) => backup::run(context, &args).await,
        Group::Ca(args) => ca::run(context, &args).await,
        Group::Init(args) => init::run(context, args).await,
        Group::Join(args) => join::run(context, args).await,
        Group::JoinToken(args) => join_token::run(context, &args).await,
        Group::Leave(args) => leave::run(context, &args).await,
        Group::Restore(args) => restore::run(context, args).await,
        Group::Unlock(args) => unlock::run(context, &args).await,
        Group::UnlockKey(args) => unlock_key::run(context, &args).await,
        Group::Update(args) => update::run(context, &args).await,
    }
}
