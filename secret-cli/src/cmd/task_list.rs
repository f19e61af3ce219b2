//! What `service ps` and `node ps` share: which tasks, and how they are shown.

use std::collections::HashMap;

use clap::Args;
use secretd_proto::v1::{Filter, ListNodesRequest, ListTasksRequest};

use super::Context;
use crate::connection::Control;
use crate::failure::Failure;
use crate::format::Format;
use crate::output;
use crate::parse::key_value;
use crate::view::task::{self, Style};

#[derive(Debug, Args)]
pub(crate) struct TaskList {
    /// Only those that match: id, name, node, desired-state
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value::filter)]
    filters: Vec<Filter>,
    /// Ids of nodes, not their names
    #[arg(long)]
    no_resolve: bool,
    /// Ids and errors in full
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl TaskList {
    /// Lists the tasks of the services or nodes that `scope` names.
    pub(crate) async fn show(
        self,
        context: &Context,
        control: &mut Control,
        scope: impl IntoIterator<Item = Filter>,
    ) -> Result<(), Failure> {
        let filters = self.filters.into_iter().chain(scope).collect();
        let tasks = control.list_tasks(ListTasksRequest { filters }).await?.into_inner().tasks;
        if self.quiet {
            let ids: String = tasks.iter().map(|task| format!("{}\n", task.id)).collect();
            return output::bytes(ids.as_bytes());
        }
        let hosts = if self.no_resolve { HashMap::new() } else { hosts(control).await? };
        let tree = matches!(context.format, Format::Table | Format::TableTemplate(_));
        let rows = task::rows(&tasks, &hosts, Style { full: self.no_trunc, tree });
        output::bytes(context.format.list(&task::COLUMNS, &[], &rows)?.as_bytes())
    }
}

/// The names of nodes by their ids.
async fn hosts(control: &mut Control) -> Result<HashMap<String, String>, Failure> {
    let nodes = control.list_nodes(ListNodesRequest::default()).await?.into_inner().nodes;
    Ok(nodes.into_iter().map(|node| (node.id, node.description.unwrap_or_default().hostname)).collect())
}
