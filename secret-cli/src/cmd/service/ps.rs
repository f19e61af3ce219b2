//! `sctl service ps`

use std::collections::HashMap;

use clap::Args;
use secretd_proto::v1::{Filter, ListNodesRequest, ListTasksRequest};

use super::update::find;
use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::failure::Failure;
use crate::format::Format;
use crate::output;
use crate::parse::key_value;
use crate::view::task::{self, Style};

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only those that match: id, name, node, desired-state
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Ids and errors in full
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Name or id of a service
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Ps) -> Result<u8, Failure> {
    let mut control = context.host.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut filters = args.filters;
    let mut found = false;
    for reference in &args.services {
        if let Some(service) = outcomes.take(find(&mut control, reference).await) {
            filters.push(Filter { key: "service".to_owned(), value: service.id });
            found = true;
        }
    }
    if !found {
        return Ok(outcomes.exit());
    }
    let tasks = control.list_tasks(ListTasksRequest { filters }).await?.into_inner().tasks;
    if args.quiet {
        output::bytes(tasks.iter().map(|task| format!("{}\n", task.id)).collect::<String>().as_bytes())?;
        return Ok(outcomes.exit());
    }
    let nodes = control.list_nodes(ListNodesRequest::default()).await?.into_inner().nodes;
    let hosts: HashMap<String, String> =
        nodes.into_iter().map(|node| (node.id, node.description.unwrap_or_default().hostname)).collect();
    let tree = matches!(context.format, Format::Table | Format::TableTemplate(_));
    let rows = task::rows(&tasks, &hosts, Style { full: args.no_trunc, tree });
    output::bytes(context.format.list(&task::COLUMNS, &[], &rows)?.as_bytes())?;
    Ok(outcomes.exit())
}
