//! `sctl node`

mod inspect;
mod ls;
mod promote;
mod ps;
mod rekey;
mod rm;
mod update;

use clap::Subcommand;
use secretd_proto::v1::GetInfoRequest;

use super::Context;
use crate::failure::Failure;
use crate::parse::role::Role;

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make managers workers
    Demote(promote::Nodes),
    /// Show nodes in full, with how each protects secrets
    Inspect(inspect::Inspect),
    /// List nodes
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    /// Make workers managers
    Promote(promote::Nodes),
    /// List the tasks of nodes, those that have ended too
    Ps(ps::Ps),
    /// Change where the key comes from that protects this node's data
    Rekey(rekey::Rekey),
    /// Remove nodes from the cluster
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    /// Change a node's labels, role, or whether it takes tasks
    Update(update::Update),
}

impl Group {
    /// Whether it shows what the cluster's state has, and nothing else.
    pub(super) fn reads(&self) -> bool {
        matches!(self, Self::Inspect(_) | Self::Ls(_) | Self::Ps(_))
    }
}

pub(crate) async fn run(context: &Context, group: Group) -> Result<u8, Failure> {
    match group {
        Group::Demote(args) => promote::run(context, args, Role::Worker).await,
        Group::Inspect(args) => inspect::run(context, args).await,
        Group::Ls(args) => ls::run(context, args).await,
        Group::Promote(args) => promote::run(context, args, Role::Manager).await,
        Group::Ps(args) => ps::run(context, args).await,
        Group::Rekey(args) => rekey::run(context, &args).await,
        Group::Rm(args) => rm::run(context, args).await,
        Group::Update(args) => update::run(context, args).await,
    }
}

/// `self` is the node that is spoken to: it alone knows which that is.
async fn named(context: &Context, reference: &str) -> Result<String, Failure> {
    if reference != "self" {
        return Ok(reference.to_owned());
    }
    let info = context.host.local().await?.get_info(GetInfoRequest {}).await?.into_inner();
    Ok(info.node_id)
}
