//! `sctl node ls`

use clap::Args;
use secretd_proto::v1::{Filter, ListNodesRequest};

use super::named;
use crate::cmd::Context;
use crate::failure::Failure;
use crate::format::Format;
use crate::output;
use crate::parse::key_value;
use crate::view::node;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only those that match: id, label, membership, name, node.label, role
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: Ls) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let listed = control.list_nodes(ListNodesRequest { filters: args.filters }).await?.into_inner();
    if args.quiet {
        output::bytes(listed.nodes.iter().map(|node| format!("{}\n", node.id)).collect::<String>().as_bytes())?;
        return Ok(0);
    }
    let mark = matches!(context.format, Format::Table | Format::TableTemplate(_));
    let own = if context.host.is_local() { named(context, "self").await? } else { String::new() };
    let rows: Vec<_> = listed.nodes.iter().map(|of| node::row(of, &own, mark)).collect();
    output::bytes(context.format.list(&node::COLUMNS, &node::MORE, &rows)?.as_bytes())?;
    Ok(0)
}
