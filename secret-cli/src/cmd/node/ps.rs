//! `sctl node ps`

use clap::Args;
use secretd_proto::v1::{Filter, GetNodeRequest};

use super::named;
use crate::cmd::Context;
use crate::cmd::outcomes::Outcomes;
use crate::cmd::task_list::TaskList;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    list: TaskList,
    /// Name or id of a node, or self
    #[arg(value_name = "NODE", default_value = "self")]
    nodes: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Ps) -> Result<u8, Failure> {
    let mut control = context.control().await?;
    let mut outcomes = Outcomes::new(context);
    let mut found = Vec::new();
    for reference in args.nodes {
        let node = match named(context, &reference).await {
            Ok(reference) => control.get_node(GetNodeRequest { reference }).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let node = outcomes.take(node).and_then(|node| node.into_inner().node);
        found.extend(node.map(|node| Filter { key: "node".to_owned(), value: node.id }));
    }
    if !found.is_empty() {
        args.list.show(context, &mut control, found).await?;
    }
    Ok(outcomes.exit())
}
